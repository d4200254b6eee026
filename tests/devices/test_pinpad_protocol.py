"""The SZZT codec against the frames of its document, and the proof that no key event can carry a digit (T6)."""

import ast
import copy
import pickle
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.driver import Damage
from devices.pinpad import commands
from devices.pinpad.commands import Info, encode_info, parse_info
from devices.pinpad.protocol import (
    CLEAR_DIGITS,
    FUNCTION_KEYS,
    LONGEST_REPLY,
    LONGEST_REQUEST,
    PIN_KEYS,
    ClearDigit,
    Event,
    Frame,
    FrameDecoder,
    FunctionKey,
    Keys,
    PinKey,
    encode,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "pinpad_frames.txt"


def read_vectors() -> dict[tuple[str, str], bytes]:
    golden = {}
    for line in VECTORS.read_text().splitlines():
        if not line.startswith("#"):
            group, meaning, frame = line.split(" | ")
            text = frame.replace("<", "\x02").replace(">", "\x03").encode()
            golden[group, meaning] = text if group == "requests" else bytes.fromhex(frame)
    return golden


GOLDEN = read_vectors()
OK = GOLDEN["replies", "OK"]
BODIES = st.binary(min_size=1, max_size=200)


def bodies(found: list[Event | Damage]) -> list[bytes]:
    return [bytes(item.body) for item in found if isinstance(item, Frame)]


def in_entry(keys: Keys = PIN_KEYS) -> FrameDecoder:
    """Return a decoder that has heard the pad's word that the entry has begun."""
    decoder = FrameDecoder()
    decoder.arm(keys)
    assert bodies(decoder.feed(OK)) == [b"\x60"]
    return decoder


def state(decoder: FrameDecoder) -> dict[str, object]:
    return {name: copy.copy(value) for name, value in vars(decoder).items()}


def test_the_vectors_are_all_there() -> None:
    assert [sum(group == name for group, _ in GOLDEN) for name in ("requests", "replies")] == [14, 4]


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=[meaning for _, meaning in GOLDEN])
def test_golden_frames_decode_and_encode(golden: bytes) -> None:
    decoder = FrameDecoder()
    assert bodies(decoder.feed(golden)) == [golden[4:-3]]
    assert encode(golden[4:-3]) == golden
    assert decoder.pending == 0


@pytest.mark.parametrize(
    ("request_", "meaning"),
    [
        (commands.INFO, "version"),
        (commands.IDENTIFY, "id"),
        (commands.RESET, "reset"),
        (commands.DISABLE_KEYPAD, "disable keypad"),
        (commands.set_shortest(4), "shortest PIN 4"),
        (commands.set_longest(6), "longest PIN 6"),
        (commands.START_ENTRY, "start PIN entry"),
        (commands.get_pin_block("3des", 0x30, "202123456789"), "PIN block key 30, ISO-0, PAN12 202123456789"),
        (commands.get_pin_block("sm4", 0x30, "202123456789"), "SM4 PIN block key 30, PAN12 202123456789"),
    ],
    ids=str,
)
def test_commands_of_the_driver(request_: commands.Request, meaning: str) -> None:
    assert encode(request_.body) == GOLDEN["requests", meaning]


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (commands.set_time_limit(35), b"5223"),
        (commands.set_longest(12), b"5512"),
        (commands.load_sm4_key(1, 0x30, bytes(16)), b"c300130" + b"0" * 32),
        (commands.load_des_key(1, 0x31, commands.KeyUse.MAC, bytes(16)), b"2013152" + b"0" * 32),
        (commands.load_des_key(1, 0x30, commands.KeyUse.PIN, bytes(24)), b"2013033" + b"0" * 48),
        (commands.get_mac("sm4", 0x31, bytes(16), b"\xab" * 16), b"e31" + b"0" * 32 + b"43" + b"AB" * 16),
        (commands.get_mac("3des", 0x31, b"\xff" * 8, b"\x00\x03" * 8), b"831A" + b"\xff\xfc" * 4 + b"\x00\x03" * 4),
    ],
    ids=str,
)
def test_commands_whose_layout_is_that_of_open_drivers(request_: commands.Request, body: bytes) -> None:
    """protocols 6.1 names these commands without a frame."""
    assert request_.body == body
    assert len(encode(request_.body)) <= LONGEST_REQUEST + 7


def calls_of_the_driver() -> list[ast.Call]:
    """Return every call in the source of the driver's modules."""
    modules = sorted(Path(commands.__file__).parent.glob("*.py"))
    assert len(modules) >= 6
    return [node for path in modules for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def head_of(body: ast.expr) -> object:
    """Return the literal that a command's body begins with; an expression that begins with none as its source."""
    while isinstance(body, ast.BinOp):
        body = body.left
    return body.value if isinstance(body, ast.Constant) else ast.unparse(body)


def test_no_command_turns_on_plaintext_keys_or_touches_the_master_key() -> None:
    """T6: every command that any module of the driver can build, by how it begins.

    Not among them: plaintext keys (5033), wiping (5031), a plain key (1), a master key (b), a PIN block in ASCII.
    """
    calls = [call for call in calls_of_the_driver() if ast.unparse(call.func).endswith("Request")]
    assert {head_of(call.args[0]) for call in calls} == {
        b"3",  # who it is
        b"I",
        b"5030",  # start anew, keypad off
        b"5032",
        b"600012",  # an entry with masked digits
        b"4",  # key table
        b"52%02X",  # time limit, shortest and longest PIN
        b"54%02d",
        b"55%02d",
        b"c30%02X%02X%b",  # working keys, encrypted
        b"2",
        b"o%02X0%b",  # PIN block, encrypted
        b"7%02X %b",
        b"e%02X%b43%b",  # message code
        b"8%02XA%b",
    }


def test_nothing_but_a_command_is_sent() -> None:
    """T6: the only calls in the driver that frame bytes or put them on the wire; so no other way leads to the pad."""
    ways = {"encode", "ask", "tell", "write"}
    calls = [call for call in calls_of_the_driver() if not isinstance(getattr(call.func, "value", None), ast.Constant)]
    said = {
        ast.unparse(call)
        for call in calls
        if (isinstance(call.func, ast.Name) and call.func.id in ways)
        or (isinstance(call.func, ast.Attribute) and call.func.attr in ways - {"encode"})
    }
    assert said == {
        "encode(request.body)",
        "encode(commands.DISABLE_KEYPAD.body)",
        "self.ask(frame, lambda event: _answers(request, event), seconds=seconds)",
        "self.tell(frame)",
    }


def test_a_request_prints_nothing_of_its_card_number() -> None:
    assert "202123456789" not in repr(commands.get_pin_block("sm4", 0x30, "202123456789"))
    assert "30" not in repr(Frame(bytearray(b"0006123")))


# That no event can carry a digit: all bytes, all types, all states.


@pytest.mark.parametrize("byte", range(256))
def test_a_byte_of_a_pin_entry_is_a_key_without_a_digit_or_nothing(byte: int) -> None:
    """T6: exhaustive over all bytes."""
    found = in_entry().feed(bytes((byte,)))
    if byte in PIN_KEYS:
        assert found == [PIN_KEYS[byte]]
    elif byte in CLEAR_DIGITS:
        assert found == [ClearDigit()]
    else:
        assert found == []
    assert all(isinstance(event, PinKey | ClearDigit) for event in found)


def test_the_types_of_a_pin_entry_have_no_room_for_a_digit() -> None:
    """T6: the values are named here, so that another one fails this test."""
    assert set(get_args(Event)) == {Frame, PinKey, FunctionKey, ClearDigit}
    assert {key.value for key in PinKey} == {"star", "clear", "enter", "cancel", "timeout"}
    assert set(PIN_KEYS.values()) <= set(PinKey)
    assert fields(ClearDigit) == ()
    assert not hasattr(ClearDigit(), "__dict__")
    assert ClearDigit() == ClearDigit()
    assert not any(character.isdigit() for key in PinKey for character in f"{key.name}{key.value}")
    assert not any(character.isdigit() for character in repr(ClearDigit()))


@pytest.mark.parametrize("keys", [PIN_KEYS, FUNCTION_KEYS], ids=["PIN", "function key"])
def test_all_digits_look_the_same(keys: Keys) -> None:
    """T6: whichever digit was pressed, the same events come out and the same state is left behind."""
    outcomes = []
    for digit in CLEAR_DIGITS:
        decoder = in_entry(keys)
        found = decoder.feed(bytes((0x2A, digit, 0x2A)))
        outcomes.append((pickle.dumps(found), repr(found), state(decoder)))
    assert len(outcomes) == 11
    assert all(outcome == outcomes[0] for outcome in outcomes)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(sorted(set(range(256)) - {0x02})), max_size=40), st.data())
def test_digits_in_any_company_look_the_same(raw: list[int], data: st.DataObject) -> None:
    """T6: any bytes between frames with their digits exchanged for others give the same events."""
    digits = st.sampled_from(sorted(CLEAR_DIGITS))
    other = bytes(data.draw(digits) if byte in CLEAR_DIGITS else byte for byte in raw)
    one, two = in_entry(), in_entry()
    assert one.feed(bytes(raw)) == two.feed(other)
    assert state(one) == state(two)


def test_function_keys_have_their_own_codes_and_no_part_in_a_pin_entry() -> None:
    codes = bytes(range(0x41, 0x49))
    assert in_entry(FUNCTION_KEYS).feed(codes) == list(FunctionKey)
    assert in_entry(PIN_KEYS).feed(codes) == []
    assert in_entry(FUNCTION_KEYS).feed(b"**") == []


@pytest.mark.parametrize("byte", range(256))
def test_outside_an_entry_no_byte_is_a_key(byte: int) -> None:
    decoder, closed = FrameDecoder(), in_entry()
    closed.close()
    armed = FrameDecoder()
    armed.arm(PIN_KEYS)
    for one in (decoder, closed, armed):
        assert one.feed(bytes((byte,))) == []


def test_keys_behind_the_pads_word_are_heard_in_the_same_chunk() -> None:
    decoder = FrameDecoder()
    decoder.arm(PIN_KEYS)
    found = decoder.feed(b"**1" + OK + b"**\x08*\x0d" + OK)
    assert found[1:-1] == [PinKey.STAR, PinKey.STAR, PinKey.CLEAR, PinKey.STAR, PinKey.ENTER]
    assert bodies(found) == [b"\x60", b"\x60"]


def test_a_damaged_answer_is_not_taken_for_keys() -> None:
    """The digits of a frame whose STX was lost are no leak: the entry has not begun."""
    decoder = FrameDecoder()
    decoder.arm(PIN_KEYS)
    assert decoder.feed(OK[1:]) == []
    assert bodies(decoder.feed(OK)) == [b"\x60"]


# The codec over hostile wires.


@settings(max_examples=100, deadline=None)
@given(st.lists(BODIES, min_size=1, max_size=4), st.lists(st.integers(0, 900), max_size=12))
def test_any_chunking_gives_the_same_frames(sent: list[bytes], cuts: list[int]) -> None:
    decoder = FrameDecoder()
    data = b"".join(map(encode, sent))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [event for start, end in pairwise(edges) for event in decoder.feed(data[start:end])]
    assert bodies(found) == sent
    assert len(found) == len(sent)
    assert decoder.pending == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), BODIES)
def test_a_frame_is_found_behind_garbage(garbage: bytes, body: bytes) -> None:
    frame = encode(body)
    found = bodies(FrameDecoder().feed(garbage + frame * (2 + (LONGEST_REPLY + 7) // len(frame))))
    assert found[-1] == body
    if 0x02 not in garbage:
        assert found[0] == body


@settings(max_examples=200, deadline=None)
@given(BODIES, st.data())
def test_one_flipped_bit_is_never_taken_for_the_frame(body: bytes, data: st.DataObject) -> None:
    frame = bytearray(encode(body))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    assert body not in bodies(FrameDecoder().feed(bytes(frame)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=2000), st.just(b"\x02999" * 300)), max_size=8), st.booleans())
def test_memory_is_bounded(chunks: list[bytes], listening: bool) -> None:
    decoder = in_entry() if listening else FrameDecoder()
    for chunk in chunks:
        decoder.feed(chunk)
        assert decoder.pending < LONGEST_REPLY + 7


@pytest.mark.parametrize("size", range(1, len(GOLDEN["replies", "PIN block"])))
def test_a_truncated_frame_gives_way_to_the_next(size: int) -> None:
    decoder = FrameDecoder()
    assert bodies(decoder.feed(GOLDEN["replies", "PIN block"][:size])) == []
    decoder.reset()
    assert decoder.pending == 0
    assert bodies(decoder.feed(OK)) == [b"\x60"]


@pytest.mark.parametrize("length", [b"000", b"401", b"999", b"0x1", b" 12", b"\xb2\xb3\xb9"])
def test_a_length_out_of_bounds_is_damage(length: bytes) -> None:
    found = FrameDecoder().feed(b"\x02" + length)
    assert len(found) == 1
    assert isinstance(found[0], Damage)


@pytest.mark.parametrize("body", [b"", bytes(1000)])
def test_a_body_that_no_length_can_tell_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 999"):
        encode(body)


def test_the_longest_request_is_taken() -> None:
    assert bodies(FrameDecoder(longest=LONGEST_REQUEST).feed(encode(bytes(999)))) == [bytes(999)]


def test_what_a_pad_says_of_itself_is_read_back() -> None:
    info = Info("ZT598", "26110017", "2.1", commands.KEY_TABLE, initialised=False)
    assert parse_info(encode_info(info)) == info
    assert len(encode_info(info)) == 146


@pytest.mark.parametrize("data", [b"", bytes(145), b"\xff" * 146, b" " * 98 + b"x" * 48, b"0" * 138 + b"\x07" * 8])
def test_an_unreadable_word_of_itself_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds, UnicodeDecodeError among them
        parse_info(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_word_of_itself_is_read_or_refused(data: bytes) -> None:
    with suppress(ValueError):
        assert parse_info(data).model.isprintable()
