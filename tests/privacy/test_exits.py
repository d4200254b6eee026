"""Every personal type at every way out of the daemon (T20, T22): nothing passes but through `reveal` and `view`.

Types and exits are found in the product, so that a new one is tested by itself: messages to the platform with its
telemetry, supervision events and alarms, the envelope of the line, the journal's tables, results and notices of the
API, the line to the vision process, the log, the audit log, systemd's line, D-Bus, and every exception. What a process
says that fails is the matter of `test_crashes`.
"""

import asyncio
import copy
import io
import json
import logging
import marshal
import pickle
import socket
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

import transport.wire
from devices.personal import Kind, PersonalBytes, PersonalText, mask
from runtime import logs
from runtime.api import rpc
from runtime.api.methods import BY_NAME, NOTICES
from runtime.audit import Audit
from runtime.journal import Journal, JournalError
from runtime.logind import LogindPower
from runtime.messages import CATALOGUE, to_payload
from runtime.notify import Notifier
from runtime.state import Component, StateBoard
from sim.memory import InlineExecutor
from sim.virtual_time import run
from tests.privacy.personal import SECRET, classes, modules, personal_types, sample, shows
from vision import wire

PERSONAL = personal_types()
MESSAGES = list(CATALOGUE)
SAID = list(dict.fromkeys([*(one.result for one in BY_NAME.values()), *(notice.params for notice in NOTICES)]))
WIRE = [one for one in classes() if one.__module__ == "vision.wire" and issubclass(one, msgspec.Struct)]
LINE = [one for one in classes() if one.__module__ == "transport.wire" and issubclass(one, msgspec.Struct)]
ERRORS = [one for one in classes() if issubclass(one, Exception)]

each_type = pytest.mark.parametrize("kind", PERSONAL, ids=lambda kind: kind.__name__)


def test_the_types_are_found() -> None:
    """Guards the search itself: these are known to be personal."""
    names = {kind.__name__ for kind in PERSONAL}
    assert {"PersonalText", "PersonalBytes", "PinBlock", "CardRecord", "Template", "Tracks", "Draft"} <= names
    assert len(PERSONAL) >= 15
    assert len(MESSAGES) > 30
    assert len(SAID) > 30
    assert len(ERRORS) > 10


@each_type
def test_it_prints_masked(kind: type) -> None:
    value = sample(kind)
    for said in (repr(value), str(value), f"{value}", f"{[value]}", f"{({1: value},)}", f"{value!s} {value!r}"):
        assert not shows(said), said


@each_type
@pytest.mark.parametrize(
    ("write", "why"),
    [
        (pickle.dumps, "personal data is not serialised"),
        (copy.deepcopy, "personal data is not copied"),
        (msgspec.json.encode, r"Encoding objects of type \w+ is unsupported"),
        (msgspec.msgpack.encode, r"Encoding objects of type \w+ is unsupported"),
        (msgspec.to_builtins, r"Encoding objects of type \w+ is unsupported"),
        (json.dumps, r"Object of type \w+ is not JSON serializable"),
        (bytes, r"cannot convert '\w+' object to bytes"),
        (marshal.dumps, "unmarshallable object"),
    ],
    ids=lambda one: f"{one.__module__}.{one.__name__}" if callable(one) else "",
)
def test_nothing_copies_or_serialises_it(kind: type, write: Callable[[Any], Any], why: str) -> None:
    """By our own refusal, or because whoever writes knows no such type; not by an accident on the way."""
    with pytest.raises((TypeError, ValueError), match=why):
        write(sample(kind))


@each_type
def test_a_shallow_copy_holds_the_same_value(kind: type) -> None:
    """Who wipes the one wipes the other; the two types themselves refuse it."""
    value = sample(kind)
    if isinstance(value, PersonalText | PersonalBytes):
        with pytest.raises(TypeError, match="personal data is not copied"):
            copy.copy(value)
    else:
        held, copied = ([getattr(one, field.name, None) for field in fields(one)] for one in (value, copy.copy(value)))
        assert all(one is other for one, other in zip(held, copied, strict=True))


def filled(kind: type[msgspec.Struct], value: Any) -> msgspec.Struct:
    """Return a message with a personal value in each of its fields."""
    return kind(**{field.name: value for field in msgspec.structs.fields(kind)})


def refuses(encode: Callable[[Any], object], kind: type[msgspec.Struct]) -> None:
    """See that a message is encoded with harmless values, and with no personal one in any of its fields."""
    encode(filled(kind, "harmless"))
    for personal in PERSONAL:
        with pytest.raises(TypeError):
            encode(filled(kind, sample(personal)))


@pytest.mark.parametrize("message", [one for one in MESSAGES if one.__struct_fields__], ids=lambda one: one.__name__)
def test_no_message_takes_it(message: type[msgspec.Struct]) -> None:
    """Supervision events, alarms and telemetry are messages of the catalogue, as all that is journaled."""
    refuses(to_payload, message)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: CATALOGUE[message].schema)
def test_a_personal_message_prints_nothing_and_is_never_journaled(message: type[msgspec.Struct]) -> None:
    """Rule 1: what carries a citizen's data in clear to the sealed line has no stream, so no table takes it."""
    entry = CATALOGUE[message]
    if entry.personal:
        assert entry.stream is None
        assert not shows(repr(filled(message, SECRET)))
        assert not shows(str([filled(message, SECRET)]))


@pytest.mark.parametrize(
    "message", [one for one in MESSAGES if CATALOGUE[one].stream is None], ids=lambda one: one.__name__
)
def test_the_journal_refuses_what_is_not_a_record(message: type[msgspec.Struct]) -> None:
    async def main(database: sqlite3.Connection) -> None:
        journal = Journal(InlineExecutor(database), lambda: 0.0)
        await journal.open()
        with pytest.raises(JournalError):
            await journal.append(filled(message, SECRET))
        assert not shows("\n".join(database.iterdump()))

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        run(main(database))


@each_type
def test_no_column_of_the_journal_takes_it(kind: type) -> None:
    async def main(database: sqlite3.Connection) -> None:
        await Journal(InlineExecutor(database), lambda: 0.0).open()
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert len(tables) > 5
        for table in tables:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            for column in columns:
                with pytest.raises(sqlite3.Error):
                    database.execute(f"INSERT INTO {table} ({column}) VALUES (?)", (sample(kind),))  # noqa: S608

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        run(main(database))


@pytest.mark.parametrize("said", [one for one in SAID if one.__struct_fields__], ids=lambda one: one.__name__)
def test_the_api_says_it_to_nobody(said: type[msgspec.Struct]) -> None:
    """No result and no notice takes it, whatever the role of who asks; the owning UI gets masked texts."""
    refuses(lambda message: rpc.encode_result(1, message), said)
    refuses(lambda message: rpc.encode_notification("any", message), said)


@each_type
def test_no_component_of_the_state_shows_it(kind: type) -> None:
    for state in (Component(sample(kind)), Component("x", details={"y": sample(kind)})):
        with pytest.raises(TypeError):
            rpc.encode_notification("events.change", state)


@pytest.mark.parametrize("message", [one for one in WIRE if one.__struct_fields__], ids=lambda one: one.__name__)
def test_the_line_to_the_vision_process_takes_views_alone(message: type[msgspec.Struct]) -> None:
    refuses(wire.encode, message)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_no_exception_quotes_it(error: type[Exception]) -> None:
    """Made by its own constructor of nothing else, then raised: in its text, its print, and a traceback with values."""
    for kind in PERSONAL:
        raised = made_of(error, sample(kind))
        try:
            raise raised
        except Exception as caught:  # noqa: BLE001 - any of them
            frames = traceback.TracebackException(type(caught), caught, caught.__traceback__, capture_locals=True)
        for said in (str(raised), repr(raised), "".join(frames.format())):
            assert not shows(said)


def made_of(error: type[Exception], value: Any) -> Exception:
    """Make an error with a personal value in every place where its constructor takes something."""
    if error.__init__ is Exception.__init__:
        return error(value)
    taken = [one for name, one in signature(error.__init__).parameters.items() if name != "self"]
    places = [_given(one, value) for one in taken if one.kind is not Parameter.KEYWORD_ONLY]
    return error(*places, **{one.name: _given(one, value) for one in taken if one.kind is Parameter.KEYWORD_ONLY})


def _given(taken: Parameter, value: Any) -> Any:
    """Return what a parameter is given: the value, inside what the constructor looks into."""
    return {"data": {"code": value, "advice": value}, "mistakes": [value]}.get(taken.name, value)


@each_type
def test_the_line_of_systemd_shows_it_masked(kind: type, tmp_path: Path) -> None:
    """sd_notify(3): whatever a component of the state held."""
    board = StateBoard()
    board.set("x", Component(sample(kind), code=sample(kind)))

    async def main(receiver: socket.socket) -> bytes:
        following = asyncio.create_task(Notifier(receiver.getsockname()).follow(board), name="following")
        await asyncio.sleep(0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return receiver.recv(65_536)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        told = asyncio.run(main(receiver))
    assert told.startswith(b"STATUS=x ")
    assert not shows(told)


def test_the_bus_hears_constants_alone() -> None:
    """D-Bus: one module speaks on it, and what that is asked to do takes no value."""
    speakers = [one for one in modules() if "dbus_fast" in Path(one.__file__ or "").read_text(encoding="utf-8")]
    assert [one.__name__ for one in speakers] == ["runtime.logind"]
    asked = [one for name, one in vars(LogindPower).items() if not name.startswith("_")]
    assert [list(signature(one).parameters) for one in asked] == [["self"]]


@pytest.mark.parametrize("message", LINE, ids=lambda message: message.__name__)
def test_no_message_of_the_line_takes_it_unsealed(message: type[msgspec.Struct]) -> None:
    """The envelope of MQTT, the retained presence and the last will among it."""
    assert transport.wire.Presence in LINE
    refuses(transport.wire.encode, message)


@each_type
def test_the_log_refuses_it_wherever_it_stands(kind: type) -> None:
    """As value, in lists and mappings, as key, in the event's text, as an error, with a traceback, by %-formatting."""
    value, stream = sample(kind), io.StringIO()
    root, configured = logging.getLogger(), structlog.get_config()
    before = root.handlers[:], root.level
    handler = logs.install(stream)
    try:
        log = structlog.get_logger("runtime.test")
        log.error("one", value=value, inside=[value, {"deep": (value,)}], error=ValueError(value))
        log.error(f"two {value}", message=f"{value}")  # noqa: G004 - what must do no harm
        try:
            raise ValueError(value)
        except ValueError:
            log.exception("three", value={1: value})
        logging.getLogger("library").error("four %s %r", value, value)
        logging.getLogger("library.other").error("five", exc_info=ValueError(value))
    finally:
        handler.close()
        root.handlers[:], root.level = before
        structlog.configure(**configured)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert not shows(stream.getvalue())


@each_type
def test_the_audit_log_takes_it_neither_as_detail_nor_as_actor(kind: type, tmp_path: Path) -> None:
    async def main(database: sqlite3.Connection) -> None:
        audit = Audit(InlineExecutor(database), tmp_path / "audit.jsonl", lambda: 0.0)
        for told in ({"actor": "uid 1", "details": {"who": sample(kind)}}, {"actor": sample(kind)}):
            with pytest.raises(TypeError):
                await audit.append("asked", **told)
        await audit.append("asked", actor="uid 1", details={"who": f"{sample(kind)}"})

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        run(main(database))
    written = (tmp_path / "audit.jsonl").read_bytes()
    assert len(written.splitlines()) == 1
    assert not shows(written)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("length", range(1, 41))
def test_every_kind_is_masked_at_every_length(kind: Kind, length: int) -> None:
    """T22: never more than five characters shown, never more than half."""
    text = "".join(chr(0x4E00 + index) for index in range(length))
    masked = mask(text, kind)
    shown = [character for character in masked if character != "*"]
    assert len(shown) <= min(5, length // 2)
    assert set(shown) <= set(text)
    if kind in {Kind.ADDRESS, Kind.DATE, Kind.TEXT}:
        assert shown == []
