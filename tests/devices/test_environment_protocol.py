"""The Modbus RTU codec against the specification's frames, and against every damage a wire can do (T14)."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.driver import Damage
from devices.environment.protocol import (
    Answer,
    AnswerDecoder,
    ExceptionCode,
    Function,
    Refusal,
    Request,
    RequestDecoder,
    crc16,
    encode_answer,
    encode_request,
)

GOLDEN = [
    (what, bytes.fromhex(frame))
    for what, frame, _ in (
        row.split(" | ")
        for row in (Path(__file__).parents[1] / "vectors" / "environment_frames.txt").read_text().splitlines()
        if not row.startswith("#")
    )
]
ADUS = [frame for what, frame in GOLDEN if what == "adu"]
PDUS = [(what, pdu) for what, pdu in GOLDEN if what != "adu"]
UNIT = 17


def divided_crc(data: bytes) -> int:
    """Return the CRC by dividing polynomials, every bit in its order on the wire: no table, no shift register."""
    bits = "".join(f"{byte:08b}"[::-1] for byte in data)
    dividend = (int(bits, 2) << 16) ^ (0xFFFF << len(bits))
    for place in range(len(bits) + 15, 15, -1):
        if dividend >> place & 1:
            dividend ^= 0x18005 << (place - 16)
    return int(f"{dividend:016b}"[::-1], 2)


def adu(pdu: bytes, unit: int = UNIT) -> bytes:
    body = bytes([unit]) + pdu
    return body + divided_crc(body).to_bytes(2, "little")


def decode(*chunks: bytes, unit: int = UNIT) -> list[Answer | Refusal | Damage]:
    decoder = AnswerDecoder(unit)
    return [found for chunk in chunks for found in decoder.feed(chunk)]


ANSWERS = st.builds(Answer, st.just(UNIT), st.sampled_from(Function), st.binary(min_size=1, max_size=250)) | st.builds(
    Refusal, st.just(UNIT), st.sampled_from(Function), st.sampled_from(ExceptionCode)
)


@pytest.mark.parametrize("frame", ADUS, ids=lambda frame: frame.hex(" "))
def test_golden_checksums(frame: bytes) -> None:
    assert crc16(frame) == 0, "the CRC of a frame with its CRC"
    assert crc16(frame[:-2]) == divided_crc(frame[:-2]) == int.from_bytes(frame[-2:], "little")


def test_the_catalogued_check_value() -> None:
    assert crc16(b"123456789") == divided_crc(b"123456789") == 0x4B37


@given(st.binary(min_size=1, max_size=64))
@settings(max_examples=200)
def test_the_checksum_is_the_polynomials(data: bytes) -> None:
    assert crc16(data) == divided_crc(data)


def test_the_golden_request() -> None:
    frame = bytes.fromhex("01 04 00 00 00 02 71 CB")
    assert frame in ADUS
    request = Request(1, Function.READ_INPUT_REGISTERS, 0, 2)
    assert encode_request(request) == frame
    assert RequestDecoder().feed(frame) == [request]


@pytest.mark.parametrize(("what", "pdu"), PDUS, ids=[pdu.hex(" ") for _, pdu in PDUS])
def test_examples_of_the_application_protocol(what: str, pdu: bytes) -> None:
    frame = adu(pdu)
    if what == "pdu_request":
        request = Request(UNIT, pdu[0], int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big"))
        assert encode_request(request) == frame
        assert RequestDecoder().feed(frame) == [request]
        return
    refused = what == "pdu_refusal"
    answer = Refusal(UNIT, pdu[0] & 0x7F, pdu[1]) if refused else Answer(UNIT, pdu[0], pdu[2:])
    assert encode_answer(answer) == frame
    assert decode(frame) == [answer]


@pytest.mark.parametrize("pdu", [pdu for what, pdu in PDUS if what != "pdu_request"], ids=lambda pdu: pdu.hex(" "))
def test_every_flipped_bit_is_seen(pdu: bytes) -> None:
    frame = adu(pdu)
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not [found for found in decode(bytes(damaged)) if not isinstance(found, Damage)]


@given(st.lists(ANSWERS, max_size=4), st.data())
@settings(max_examples=200)
def test_chunks_make_no_difference(answers: list[Answer | Refusal], data: st.DataObject) -> None:
    wire = b"".join(map(encode_answer, answers))
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=6).map(sorted))
    assert decode(*(wire[start:end] for start, end in pairwise([0, *cuts, len(wire)]))) == answers


@given(ANSWERS)
@settings(max_examples=100)
def test_a_truncated_answer_is_none(answer: Answer | Refusal) -> None:
    wire = encode_answer(answer)
    decoder = AnswerDecoder(UNIT)
    assert decoder.feed(wire[:-1]) == []
    decoder.reset()
    assert decoder.pending == 0
    assert decoder.feed(wire) == [answer]


@pytest.mark.parametrize(
    "noise", [b"\x00\xff\xaa\xaa\xaa\x96", b"\x12\x11\x05", b"\x11\x04\x00", b"\x11\x04\x04"], ids=lambda n: n.hex(" ")
)
def test_noise_before_an_answer_does_no_harm(noise: bytes) -> None:
    answer = Answer(UNIT, Function.READ_INPUT_REGISTERS, b"\x01\xc2")
    assert decode(noise + encode_answer(answer))[-1:] == [answer]


def test_another_units_answer_is_nothing() -> None:
    assert decode(encode_answer(Answer(3, Function.READ_INPUT_REGISTERS, b"\x01\xc2"))) == []


@given(st.lists(st.binary(max_size=400), max_size=8))
@settings(max_examples=200)
def test_any_bytes_in_bounded_memory(chunks: list[bytes]) -> None:
    decoder, requests = AnswerDecoder(UNIT), RequestDecoder()
    for chunk in chunks:
        decoder.feed(chunk)
        requests.feed(chunk)
        assert decoder.pending < 255
    decoder.feed(bytes(255))
    answer = Answer(UNIT, Function.READ_DISCRETE_INPUTS, b"\x01")
    assert decoder.feed(encode_answer(answer))[-1:] == [answer]
    request = Request(UNIT, Function.READ_DISCRETE_INPUTS, 0, 1)
    requests.feed(bytes(8))
    assert requests.feed(encode_request(request))[-1:] == [request]
