"""The log: JSON lines, never personal data (T20, T22), never in the way (L41), no flood by libraries (L26)."""

import io
import json
import logging
import os
import threading
import warnings

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devices.personal import Kind, PersonalBytes, PersonalText
from runtime import logs

NUMBER = "11010119900307421X"  # synthetic
MASKED = "110*************1X"


@pytest.fixture
def out():
    """What a run of the log wrote, read after `close`; the process's logging is put back afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    handler = logs.install(stream)

    def lines():
        handler.close()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield lines
    handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def logger(name="runtime.test"):
    return structlog.get_logger(name)


def test_an_event_is_one_json_line(out):
    logger().info("device_online", device="idcard", seconds=0.5, codes=["a"], details={"paper": True}, nothing=None)
    (line,) = out()
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "device_online",
        "level": "info",
        "logger": "runtime.test",
        "device": "idcard",
        "seconds": 0.5,
        "codes": ["a"],
        "details": {"paper": True},
        "nothing": None,
    }


LEVELS = {"DEBUG": "<7>", "INFO": "<6>", "WARNING": "<4>", "ERROR": "<3>", "CRITICAL": "<2>"}


@pytest.mark.parametrize("is_journal", [True, False])
def test_to_the_journal_each_line_begins_with_its_priority(tmp_path, monkeypatch, is_journal):
    """sd-daemon(3), and JOURNAL_STREAM of systemd.exec(5): another file than the journal's stays plain JSON."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + (not is_journal)}")
        handler = logs.LineHandler(stream)
        for level in LEVELS:
            handler.handle(logging.makeLogRecord({"name": "runtime", "levelname": level, "msg": "x\ny"}))
        handler.dropped = 3
        handler.handle(logging.makeLogRecord({"name": "runtime", "levelname": "INFO", "msg": "x"}))
        handler.close()
    lines = path.read_text().splitlines()
    expected = [*LEVELS.values(), "<4>", "<6>"]
    assert [line[: line.index("{")] for line in lines] == (expected if is_journal else [""] * len(expected))
    assert all(json.loads(line[line.index("{") :]) for line in lines)


def test_debug_is_not_written(out):
    logger().debug("every_byte")
    assert out() == []


def test_an_identity_number_is_masked_wherever_it_stands(out):
    logger().info(
        f"read {NUMBER}",
        text=f"a{NUMBER}b",
        number=110101199003074218,
        inside=[{NUMBER: {"deep": (NUMBER,)}}],
        other=Odd(),
    )
    text = json.dumps(out())
    assert NUMBER not in text
    assert "110101199003074218" not in text
    assert text.count(MASKED) == 4
    assert "<Odd>" in text, "what an object says of itself is not asked"


class Odd:
    def __str__(self):
        return NUMBER


def test_a_cut_does_not_save_half_a_number(out):
    logger().info("long", text="x" * 990 + NUMBER)
    assert "110101" not in out()[0]["text"]


def test_personal_types_and_bytes_are_refused(out):
    logger().info(
        "card",
        name=PersonalText("张三丰", Kind.NAME),
        photo=PersonalBytes(b"secret"),
        body=b"secret",
        view=memoryview(b"se"),
    )
    (line,) = out()
    assert line["name"] == line["photo"] == "<personal data refused>"
    assert line["body"] == "<6 bytes>"
    assert line["view"] == "<2 bytes>"


def test_an_exception_is_told_by_type_and_place_never_by_message(out):
    try:
        raise ValueError("张三丰 lives at 5 Park Lane")
    except ValueError as error:
        logger().exception("failed", reason=error)
        logging.getLogger("asyncio").error("never retrieved: %s", "task", exc_info=error)
    ours, theirs = out()
    assert "Park Lane" not in json.dumps([ours, theirs])
    assert ours["error"] == ours["reason"] == theirs["error"] == "ValueError"
    assert ours["traceback"][0].startswith(f"{__name__}.test_an_exception")


def test_a_library_is_heard_from_warning_up_and_once_a_minute(out, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    library = logging.getLogger("aiomqtt")
    library.info("chatter")
    for pending in range(50):
        library.warning("%d pending publishes", pending)
    library.warning("something else")
    now[0] += logs.REPEAT_SECONDS
    library.warning("%d pending publishes", 51)
    lines = out()
    assert [(line["event"], line["logger"], line["text"]) for line in lines] == [
        ("library_message", "aiomqtt", "0 pending publishes"),
        ("library_message", "aiomqtt", "something else"),
        ("library_message", "aiomqtt", "51 pending publishes"),
    ]
    assert lines[2]["held_back"] == 49


def test_a_library_that_never_repeats_itself_takes_no_more_memory(out):
    library = logging.getLogger("chatty")
    for number in range(2_000):
        library.warning(f"message {number}")
    (handler,) = [one for one in logging.getLogger().handlers if isinstance(one, logs.LineHandler)]
    (repeats,) = handler.filters
    assert len(repeats._seen) <= 256
    out()


def test_our_own_lines_are_never_held_back(out):
    for _ in range(3):
        logger("devices.serial").warning("serial_close_slow")
    assert len(out()) == 3


def test_python_warnings_go_to_the_log(out):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert out()[0]["logger"] == "py.warnings"


class Stuck(io.StringIO):
    """A reader that takes nothing until it is let go."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.release = threading.Event()

    def write(self, text):
        self.entered.set()
        assert self.release.wait(20)
        return super().write(text)


def test_a_stuck_reader_holds_nobody_and_what_is_dropped_is_told():
    stream = Stuck()
    handler = logs.LineHandler(stream, lines=4)
    record = logging.makeLogRecord({"name": "runtime", "levelname": "INFO", "levelno": logging.INFO, "msg": "x"})
    handler.handle(record)
    assert stream.entered.wait(5)
    for _ in range(10):
        handler.handle(record)
    assert handler.dropped == 6
    stream.release.set()
    while not handler._queue.empty():
        threading.Event().wait(0.001)
    handler.handle(record)
    handler.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("count") for line in lines] == [None] * 5 + [6, None]
    assert lines[5]["event"] == "log_lines_dropped"


def test_a_closed_reader_ends_nothing():
    stream = io.StringIO()
    handler = logs.LineHandler(stream)
    stream.close()
    handler.handle(logging.makeLogRecord({"name": "runtime", "levelname": "INFO", "levelno": logging.INFO, "msg": "x"}))
    handler.close()
    assert not handler._thread.is_alive()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(NUMBER),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1), ANY, max_size=4))
@example({"exc_info": (False,)})
@settings(max_examples=200)
def test_anything_gives_one_line_of_json_without_the_number(event):
    line = logs._render(None, "", logs.clean(None, "", dict(event)))
    assert line.count("\n") == 1
    assert NUMBER not in line
    json.loads(line)
