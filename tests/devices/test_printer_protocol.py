"""ESC/POS encoders and the status decoder, against bytes from documents (protocols 3.1 to 3.6)."""

import tomllib
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.errors import DeviceError
from devices.printer import protocol
from devices.printer.decoder import (
    AutomaticStatus,
    Event,
    Flow,
    PaperReply,
    PresenterReply,
    RealTimeReply,
    SerialNumber,
    StatusDecoder,
)
from devices.printer.protocol import Align, Condition

GOLDEN: dict[str, Any] = tomllib.loads((Path(__file__).parent.parent / "vectors/printer_frames.toml").read_text())

ENCODED = {
    "initialise": protocol.INIT,
    "align_left": protocol.align(Align.LEFT),
    "align_centre": protocol.align(Align.CENTRE),
    "align_right": protocol.align(Align.RIGHT),
    "double_size_on": protocol.double_size(on=True),
    "double_size_off": protocol.double_size(on=False),
    "feed_6_lines": protocol.feed_lines(6),
    "feed_24_dots": protocol.feed_dots(24),
    "feed_96_full_cut": protocol.cut(96),
    "recover_clear": protocol.RECOVER_CLEAR,
    "automatic_status": protocol.AUTOMATIC_STATUS_ON,
    "paper_query": protocol.PAPER_QUERY,
    **{f"real_time_query_{n}": protocol.real_time_query(n) for n in protocol.REAL_TIME_QUERIES},
    "raster_16x2_black": protocol.raster(2, b"\xff" * 4),
    "text_beijing": protocol.text_line("北京市"),
    "qr_a_gov_cn": protocol.qr_code("https://a.gov.cn"),
    "serial_number_query": protocol.SERIAL_NUMBER_QUERY,
    "present_12_steps": protocol.present(12),
    "retract": protocol.RETRACT,
    "presenter_query": protocol.PRESENTER_QUERY,
}


@pytest.mark.parametrize("name", GOLDEN["commands"])
def test_commands_are_the_documents_bytes(name: str) -> None:
    assert ENCODED[name] == bytes.fromhex(GOLDEN["commands"][name])


def wrong(condition: Condition) -> set[str]:
    return {field.name for field in fields(condition) if getattr(condition, field.name)}


@pytest.mark.parametrize("reply", GOLDEN["replies"], ids=lambda reply: f"{reply['n']}-{reply['byte']}")
def test_real_time_replies(reply: dict[str, Any]) -> None:
    byte = int(reply["byte"], 16)
    condition = Condition().after_reply(reply["n"], byte)
    assert wrong(condition) == set(reply["wrong"])
    assert condition.reply(reply["n"]) == byte
    assert condition.fault is None or reply["wrong"] != ["near_end"]


@pytest.mark.parametrize("sample", GOLDEN["automatic"], ids=lambda sample: sample["frame"])
def test_automatic_status(sample: dict[str, Any]) -> None:
    frame = bytes.fromhex(sample["frame"])
    condition = Condition.from_automatic(frame)
    assert wrong(condition) - {"paper_stop", "error"} == set(sample["wrong"])
    assert condition.automatic() == frame
    assert StatusDecoder().feed(frame) == [AutomaticStatus(frame)]


CONDITIONS = st.builds(Condition, **{field.name: st.booleans() for field in fields(Condition)})


@given(CONDITIONS)
def test_four_replies_tell_everything(condition: Condition) -> None:
    told = Condition()
    for n in protocol.REAL_TIME_QUERIES:
        told = told.after_reply(n, condition.reply(n))
    assert told == condition


@given(CONDITIONS)
def test_any_condition_survives_its_automatic_status(condition: Condition) -> None:
    again = Condition.from_automatic(condition.automatic())
    assert again.automatic() == condition.automatic()
    assert again.cover_open == condition.cover_open
    assert again.paper_end == condition.paper_end == again.paper_stop


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        (Condition(), None),
        (Condition.idle(), None),
        (Condition(near_end=True), None),
        (Condition(offline=True, cover_open=True, paper_end=True), "printer.cover_open"),
        (Condition(offline=True, paper_stop=True), "printer.paper_out"),
        (Condition(offline=True, cutter_error=True, error=True), "printer.cutter_jam"),
        (Condition(overheated=True, error=True), "printer.head_hot"),
        (Condition(error=True), "printer.hardware_error"),
        (Condition(unrecoverable=True), "printer.hardware_error"),
        (Condition(offline=True), "printer.not_ready"),
    ],
)
def test_fault_codes(condition: Condition, code: str | None) -> None:
    """T4: each way of not printing is a state with a name."""
    assert condition.fault == code


def test_characters_of_four_bytes_are_refused() -> None:
    """U+3400 is 81 39 EE 39 in GB18030: many printers print garbage for it (protocols 3.1)."""
    assert "㐀".encode("gb18030") == bytes.fromhex("8139EE39")
    for text in ("㐀", "𠀀", "\n", "\x10\x05\x02", "ß", "\ue000", "€", "\x7f"):
        with pytest.raises(DeviceError) as caught:
            protocol.text_line(f"张{text}")
        assert caught.value.code == "printer.unprintable_text"
        assert not caught.value.retry
        assert "张" not in str(caught.value)
    with pytest.raises(DeviceError):
        protocol.qr_code("查询")


@given(st.text())
def test_text_is_printable_or_refused(text: str) -> None:
    """No text smuggles a command into the stream."""
    try:
        line = protocol.text_line(text)
    except DeviceError:
        assert any(not " " <= character <= "~" for character in text)
        return
    body = line.removeprefix(b"\x1c\x26").removesuffix(b"\x0a\x1c\x2e")
    assert min(body, default=0x20) >= 0x20
    assert body.decode("gbk") == text


def test_pictures_hold_no_real_time_command() -> None:
    """Firmwares act on 10 04, 10 05 and 10 14 inside pictures; one dot more breaks them (protocols 3.6)."""
    picture = bytes.fromhex("10 04 01 10 05 02 10 14 08 10 10 04 10 06 04 10")
    assert protocol.raster(8, picture)[8:] == bytes.fromhex("18 04 01 18 05 02 18 14 08 10 18 04 10 06 04 10")


def test_one_stream_is_taken_apart() -> None:
    """Flow control and answers may come in the middle of an automatic status (protocols 3.5)."""
    decoder = StatusDecoder()
    decoder.asked = 2
    decoder.paper_asked = True
    heard = decoder.feed(bytes.fromhex("18 13 00 16 0F 11 0F 03 03 12"))
    expected: list[Event] = [
        Flow(stopped=True),
        RealTimeReply(2, 0x16),
        Flow(stopped=False),
        AutomaticStatus(bytes.fromhex("18 00 0F 0F")),
        PaperReply(paper_end=False),
    ]
    assert heard == expected
    assert decoder.strays == 1, "12 is a late answer to DLE EOT, whatever it was asked"


@pytest.mark.parametrize(("byte", "end"), [(0x00, False), (0x03, False), (0x0C, True), (0x0F, True)])
def test_paper_answers_count_only_when_asked(byte: int, *, end: bool) -> None:
    decoder = StatusDecoder()
    assert decoder.feed(bytes((byte,))) == []
    assert decoder.strays == 1
    decoder.paper_asked = True
    assert decoder.feed(bytes((byte, byte))) == [PaperReply(paper_end=end)]
    assert decoder.strays == 2


@given(
    data=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 200)),
    asked=st.sampled_from([None, 1, 2, 3, 4]),
    paper_asked=st.booleans(),
    others=st.tuples(st.booleans(), st.booleans()),
)
@settings(max_examples=200)
def test_any_bytes_in_any_chunks(
    data: bytes, cuts: list[int], asked: int | None, others: tuple[bool, bool], *, paper_asked: bool
) -> None:
    """The decoder is total, does not depend on the chunks, holds at most 64 bytes, and resynchronises."""
    whole, pieces = StatusDecoder(), StatusDecoder()
    for decoder in (whole, pieces):
        decoder.asked, decoder.paper_asked = asked, paper_asked
        decoder.serial_asked, decoder.presenter_asked = others
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    heard = [event for start, end in pairwise(edges) for event in pieces.feed(data[start:end])]
    assert heard == whole.feed(data)
    assert len(pieces._frame) <= 3
    assert len(pieces._text or b"") <= 64
    assert sum(isinstance(event, RealTimeReply) for event in heard) <= (asked is not None)
    assert sum(isinstance(event, PaperReply) for event in heard) <= paper_asked
    assert sum(isinstance(event, SerialNumber) for event in heard) <= others[0]
    assert sum(isinstance(event, PresenterReply) for event in heard) <= others[1]
    frame = bytes.fromhex("10 00 00 0F")
    assert pieces.feed(frame + frame)[-1] == AutomaticStatus(frame)


def test_a_serial_number_is_a_string_of_its_own() -> None:
    """GS I 68 is answered by 5F, text, 00 (protocols 3.4); its digits look like the first byte of a status."""
    decoder = StatusDecoder()
    assert decoder.feed(b"\x5fSN02\x00") == []
    assert decoder.strays > 0, "nobody asked"
    decoder = StatusDecoder()
    decoder.serial_asked = decoder.paper_asked = True
    decoder.asked = 1
    assert decoder.feed(b"\x5fSN-20\x13026\x00") == [Flow(stopped=True), SerialNumber("SN-20026")]
    assert decoder.asked == 1
    for bad in (b"\x5f\x10\x00", b"\x5fA B\x00", b"\x5f" + b"9" * 65):
        decoder.serial_asked = True
        assert decoder.feed(bad) == [SerialNumber("")]


@pytest.mark.parametrize("reply", GOLDEN["presenter"], ids=lambda reply: reply["byte"])
def test_presenter_replies(reply: dict[str, Any]) -> None:
    """GS e 6: one byte, by the tables of the Custom KPM and Reliance manuals."""
    decoder = StatusDecoder()
    byte = bytes.fromhex(reply["byte"])
    decoder.presenter_asked = True
    (told,) = decoder.feed(byte)
    assert told == PresenterReply(**{name: name in reply["is"] for name in ("at_outlet", "moving", "jammed")})


def test_a_presenter_that_still_prints_has_not_answered() -> None:
    """b4, the paper motor, makes the byte look like another: 11 is XON, 18 begins a status. It is asked again."""
    decoder = StatusDecoder()
    decoder.presenter_asked = True
    assert decoder.feed(b"\x11") == [Flow(stopped=False)]
    assert decoder.feed(b"\x18") == []
    assert decoder.presenter_asked


@given(CONDITIONS, st.integers(0, 31))
def test_a_flipped_bit_never_proves_a_print(condition: Condition, bit: int) -> None:
    """A damaged automatic status while GS r 1 is out leaves a stray byte whenever it looks like the answer (L16)."""
    damaged = (int.from_bytes(condition.automatic()) ^ 1 << bit).to_bytes(4)
    decoder = StatusDecoder()
    decoder.paper_asked = True
    heard = decoder.feed(damaged)
    assert decoder.strays > 0 or not any(isinstance(event, PaperReply) for event in heard)
