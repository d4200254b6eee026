"""The Megatec codec against the lines of its document, and against every damage a wire can do (T14)."""

import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.driver import Damage
from devices.ups.megatec_protocol import (
    LONGEST,
    Bits,
    CommandDecoder,
    Frame,
    Identity,
    Line,
    LineDecoder,
    Ratings,
    Status,
    encode_command,
    encode_identity,
    encode_ratings,
    encode_status,
    shutdown_command,
)

GOLDEN = tomllib.loads((Path(__file__).parents[1] / "vectors" / "ups_megatec.toml").read_text())
STATUS = (GOLDEN["status"][0]["line"] + "\r").encode()
RATINGS = GOLDEN["ratings"][0]["line"].encode()
IDENTITY = b"#SANTAK          C1K        VER 1.0   \r"


def status_of(golden: dict[str, Any]) -> Status:
    first, fault, output, load, hertz, battery, temperature = golden["figures"]
    bits = Bits(0)
    for name in golden["bits"]:
        bits |= Bits[name]
    return Status(first, fault, output, load, hertz, battery, False, temperature, bits)


def decode(*chunks: bytes) -> list[Frame | Damage]:
    decoder = LineDecoder()
    return [found for chunk in chunks for found in decoder.feed(chunk)]


@pytest.mark.parametrize("golden", GOLDEN["status"], ids=lambda golden: golden["line"])
def test_golden_statuses_decode_and_encode(golden: dict[str, Any]) -> None:
    line = golden["line"].encode() + b"\r"
    assert len(line) == 47
    assert decode(line) == [status_of(golden)]
    assert encode_status(status_of(golden)) == line


def test_golden_ratings_decode_and_encode() -> None:
    ratings = Ratings(*GOLDEN["ratings"][0]["figures"])
    assert decode(RATINGS + b"\r") == [ratings]
    assert encode_ratings(ratings) == RATINGS + b"\r"


def test_ratings_without_an_end_are_whole() -> None:
    """NUT issue 608: 21 bytes, no CR."""
    (ratings,) = decode(RATINGS)
    assert isinstance(ratings, Ratings)
    found = decode(RATINGS + STATUS)
    assert [type(each) for each in found] == [Ratings, Status]


def test_identity() -> None:
    assert len(IDENTITY) == 39
    identity = Identity("SANTAK", "C1K", "VER 1.0")
    assert decode(IDENTITY) == [identity]
    assert encode_identity(identity) == IDENTITY
    assert decode(IDENTITY[:-2] + b"\r") == [identity], "38 bytes are seen too"


def test_garbage_in_an_identity_is_damage() -> None:
    """NUT issue 3103."""
    assert isinstance(decode(b"#SANT\xff\x80          C1K        VER 1.0   \r")[0], Damage)


@pytest.mark.parametrize(
    ("change", "field"),
    [((b"27.0", b"--.-"), "temperature"), ((b"50.0", b"--.-"), "hertz"), ((b"012", b"---"), "load_percent")],
    ids=str,
)
def test_what_is_not_measured_is_unknown(change: tuple[bytes, bytes], field: str) -> None:
    """NUT issue 2958."""
    line = STATUS.replace(*change)
    (status,) = decode(line)
    assert isinstance(status, Status)
    assert getattr(status, field) is None
    assert encode_status(status) == line


def test_volts_of_one_cell() -> None:
    """NUT issues 1039 and 3482."""
    line = STATUS.replace(b"27.3", b"2.27")
    (status,) = decode(line)
    assert isinstance(status, Status)
    assert (status.battery_volts, status.per_cell) == (2.27, True)
    assert encode_status(status) == line


@pytest.mark.parametrize("text", ["Q1", "ACK", "NAK"])
def test_other_lines_are_lines(text: str) -> None:
    assert decode(text.encode() + b"\r") == [Line(text)]
    assert CommandDecoder().feed(encode_command(text)) == [text]


@pytest.mark.parametrize(
    "noise", [b"\x00\xff\xaa\xaa\xaa\x96", b"(221.3 221", STATUS[:-1], b"#", b"x" * 1000], ids=repr
)
def test_what_comes_before_a_good_line_does_no_harm(noise: bytes) -> None:
    assert decode(noise + STATUS)[-1:] == [status_of(GOLDEN["status"][0])]


@given(st.integers(0, len(STATUS) - 2), st.integers(0, 7))
@settings(max_examples=200)
def test_one_flipped_bit_leaves_the_shape_or_no_status(at: int, bit: int) -> None:
    """There is no checksum: a flip may make another digit, never another field, and the driver asks twice."""
    line = bytearray(STATUS)
    line[at] ^= 1 << bit
    for found in decode(bytes(line)):
        if isinstance(found, Status):
            changed = [a for a, b in zip(encode_status(found), STATUS, strict=True) if a != b]
            assert len(changed) == 1


@given(
    st.lists(st.sampled_from([STATUS, RATINGS, IDENTITY, b"NAK\r", b"\xff(#", b"\r", b"(" + b"x" * 140]), max_size=8),
    st.data(),
)
@settings(max_examples=200)
def test_chunks_make_no_difference(parts: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8).map(sorted))
    chunks = [wire[start:end] for start, end in pairwise([0, *cuts, len(wire)])]
    assert list(map(repr, decode(*chunks))) == list(map(repr, decode(wire)))


def test_chunks_make_no_difference_to_a_long_line() -> None:
    wire = b"(" + b"x" * (LONGEST + 10) + b"\r"
    assert list(map(repr, decode(wire[:-1], wire[-1:]))) == list(map(repr, decode(wire)))


@given(st.lists(st.binary(max_size=300), max_size=8))
@settings(max_examples=200)
def test_any_bytes_in_bounded_memory(chunks: list[bytes]) -> None:
    decoder, commands = LineDecoder(), CommandDecoder()
    for chunk in chunks:
        decoder.feed(chunk)
        commands.feed(chunk)
        assert decoder.pending <= LONGEST
    decoder.feed(b"x" * 1000)
    assert decoder.pending == LONGEST
    decoder.feed(b"\r")
    assert decoder.feed(STATUS) == [status_of(GOLDEN["status"][0])]


@given(
    st.builds(
        Status,
        *[st.none() | st.integers(0, 9999).map(lambda tenths: tenths / 10)] * 3,
        st.none() | st.integers(0, 999),
        *[st.none() | st.integers(0, 999).map(lambda tenths: tenths / 10)] * 2,
        st.just(value=False),
        st.none() | st.integers(-99, 999).map(lambda tenths: tenths / 10),
        st.integers(0, 255).map(Bits),
    )
)
@settings(max_examples=200)
def test_a_status_goes_there_and_back(status: Status) -> None:
    assert decode(encode_status(status)) == [status]


@pytest.mark.parametrize(
    ("seconds", "command"),
    [
        (0, "S.2R0003"),
        (13, "S.3R0003"),
        (30, GOLDEN["commands"]["shutdown_return_30_s"]),
        (54, "S.9R0003"),
        (55, "S01R0003"),
        (61, "S02R0003"),
        (600, "S10R0003"),
    ],
)
def test_a_shutdown_never_comes_earlier_than_asked(seconds: float, command: str) -> None:
    assert shutdown_command(seconds) == command


@pytest.mark.parametrize("seconds", [-1, 601, float("nan"), float("inf")])
def test_a_delay_that_cannot_be_said(seconds: float) -> None:
    with pytest.raises(ValueError, match="delay"):
        shutdown_command(seconds)
