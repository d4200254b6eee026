"""The CRT-310 codec against the frames of its document, and against every damage a wire can do (T5)."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.cardreader import protocol as wire
from devices.cardreader.protocol import Frame, FrameDecoder, Handshake, Outcome, Position, Reason, Request, Signal
from devices.driver import Damage

VECTORS = Path(__file__).parents[1] / "vectors" / "cardreader_frames.txt"
GOLDEN = {
    meaning: bytes.fromhex(frame)
    for _, meaning, frame in (
        line.split(" | ") for line in VECTORS.read_text().splitlines() if not line.startswith("#")
    )
}
FRAMES = st.tuples(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=264))
PSE_APDU = bytes.fromhex("00 A4 04 00 0E 31 50 41 59 2E 53 59 53 2E 44 44 46 30 31 00")


def frames(found: Sequence[Frame | Signal | Damage]) -> list[tuple[int, int, bytes]]:
    return [(item.cm, item.pm, bytes(item.data)) for item in found if isinstance(item, Frame)]


def decoded(meaning: str) -> Frame:
    (frame,) = FrameDecoder().feed(GOLDEN[meaning])
    assert isinstance(frame, Frame)
    return frame


def test_the_vectors_are_all_there() -> None:
    assert len(GOLDEN) == 38


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=list(GOLDEN))
def test_golden_frames_decode_and_encode(golden: bytes) -> None:
    decoder = FrameDecoder()
    (frame,) = decoder.feed(golden)
    assert isinstance(frame, Frame)
    assert wire.encode_frame(frame.cm, frame.pm, frame.data) == golden
    assert decoder.pending == 0


@pytest.mark.parametrize(
    ("request_", "meaning"),
    [
        (wire.RESET, "reset, do not move card"),
        (wire.SERIAL_NUMBER, "read serial number"),
        (wire.STATUS, "status"),
        (wire.ALLOW_ENTRY, "allow front entry (switch), rear prohibited"),
        (wire.PROHIBIT_ENTRY, "prohibit entry both sides"),
        (wire.TO_CONTACT, "move to IC contact"),
        (wire.EJECT, "eject front, no hold"),
        (wire.CAPTURE, "capture (rear, no hold)"),
        (wire.POWER_ON, "IC power on"),
        (wire.POWER_OFF, "IC power off"),
        (wire.COLD_RESET, "CPU card cold reset"),
        (wire.WARM_RESET, "CPU card warm reset"),
        (wire.READ_TRACKS, "read all tracks, ASCII"),
        (wire.SEEK_CONTACTLESS, "RF (Mifare) seek"),
        (wire.apdu(PSE_APDU, t1=False), "T=0 APDU: SELECT 1PAY.SYS.DDF01"),
    ],
)
def test_requests_of_the_driver(request_: Request, meaning: str) -> None:
    assert wire.encode(request_) == GOLDEN[meaning]


def test_replies_are_read_as_the_document_says() -> None:
    positions = {
        "status: none / switch entry / rear prohibited": Position.NONE,
        "status: card inside": Position.INSIDE,
        "status: card at IC contact": Position.CONTACT,
        "status: at gate, not held": Position.GATE_LOOSE,
    }
    for meaning, position in positions.items():
        assert wire.STATUS.answered_by(decoded(meaning))
        assert decoded(meaning).data[0] == position
    assert decoded("eject ok").data == bytes([Outcome.OK])
    assert decoded("eject: no card").data == bytes([Outcome.NO_CARD])
    assert decoded("entry mode ok").data[-1] == Outcome.OK
    assert decoded('reset ok, "CRT 310 V3.0"').data == b"CRT 310 V3.0"
    atr = wire.counted(decoded("cold reset ok, T=0, 13-byte ATR").data)
    assert atr == bytes.fromhex("3B 69 00 00 4A 43 4F 50 33 31 56 32 32")
    assert wire.counted(decoded("cold reset, no card").data) is None
    refusal = decoded("negative: not executable")
    assert wire.EJECT.answered_by(refusal)
    assert not wire.STATUS.answered_by(refusal)
    assert wire.encode_refusal(0x32, Reason.NOT_NOW) == GOLDEN["negative: not executable"]


def test_tracks_are_split_by_their_records() -> None:
    read, faults = wire.split_tracks(decoded("track 2 ok").data)
    assert (read, faults) == ({2: b"6222021234567890=2512201"}, {})
    assert wire.split_tracks(decoded("track 2 blank").data) == ({}, {2: "blank"})
    data = bytearray(wire.join_tracks(0x37, [0xE3, b"12=34", b"99"]))
    assert wire.split_tracks(data) == ({2: b"12=34", 3: b"99"}, {1: "parity"})


def test_tracks_that_are_refused_are_not_kept_by_the_error() -> None:
    """T20: records of another number than was asked for."""
    with pytest.raises(ValueError, match="1 records for 3") as caught:
        wire.split_tracks(bytearray(wire.join_tracks(0x37, [b"6222021234567894=3012"])))
    kept = dict(caught.traceback[-1].frame.f_locals)
    assert b"6222" in kept.pop("data"), "which the caller wipes"
    assert "6222" not in str(kept)


@given(st.binary(max_size=40))
def test_any_track_data_is_split_or_refused(data: bytes) -> None:
    try:
        read, faults = wire.split_tracks(bytearray(data))
    except ValueError:
        return
    assert not read.keys() & faults.keys()
    assert read.keys() | faults.keys() <= {1, 2, 3}


def test_a_frame_prints_nothing_of_its_data() -> None:
    frame = Frame(0x45, 0x30, bytearray(b"6222021234567894"))
    assert "622" not in repr(frame)
    assert "622" not in repr(wire.apdu(b"6222021234567894", t1=True))
    frame.wipe()
    assert frame.data == b""


def test_a_frame_has_room_for_264_bytes() -> None:
    assert frames(FrameDecoder().feed(wire.encode_frame(0x37, 0x31, bytes(264)))) == [(0x37, 0x31, bytes(264))]
    with pytest.raises(ValueError, match="do not fit"):
        wire.encode_frame(0x37, 0x31, bytes(265))


@settings(max_examples=100, deadline=None)
@given(st.lists(FRAMES, min_size=1, max_size=4), st.lists(st.integers(0, 1000), max_size=12))
def test_any_chunking_gives_the_same_frames_and_signals(sent: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    data = b"".join(b"\x06" + wire.encode_frame(*frame) for frame in sent)
    decoder = FrameDecoder()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [item for start, end in pairwise(edges) for item in decoder.feed(data[start:end])]
    assert frames(found) == sent
    assert found[::2] == [Signal.ACK] * len(sent)
    assert decoder.pending == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), FRAMES)
def test_a_frame_is_found_behind_garbage(garbage: bytes, frame: tuple[int, int, bytes]) -> None:
    """Garbage that begins like a frame may swallow what follows it; LONGEST bytes later all is found."""
    sent = wire.encode_frame(*frame)
    found = frames(FrameDecoder().feed(garbage + sent * (2 + (wire.LONGEST + 8) // len(sent))))
    assert found[-1] == frame
    if wire.STX not in garbage:
        assert found[0] == frame


@settings(max_examples=200, deadline=None)
@given(FRAMES, st.data())
def test_one_flipped_bit_is_never_taken_for_the_frame(frame: tuple[int, int, bytes], data: st.DataObject) -> None:
    sent = bytearray(wire.encode_frame(*frame))
    bit = data.draw(st.integers(0, len(sent) * 8 - 1))
    sent[bit // 8] ^= 1 << bit % 8
    assert frame not in frames(FrameDecoder().feed(bytes(sent)))


@pytest.mark.parametrize("size", range(1, 30))
def test_a_truncated_frame_gives_nothing_and_reset_forgets_it(size: int) -> None:
    decoder = FrameDecoder()
    assert decoder.feed(GOLDEN["track 2 ok"][:size]) == []
    decoder.reset()
    assert decoder.pending == 0
    assert frames(decoder.feed(GOLDEN["eject ok"])) == [(0x32, 0x30, b"Y")]


@pytest.mark.parametrize("length", [0, 1, wire.LONGEST + 1, 0xFFFF])
def test_a_length_out_of_bounds_is_damage(length: int) -> None:
    (damage,) = FrameDecoder().feed(b"\x02" + length.to_bytes(2, "big"))[:1]
    assert isinstance(damage, Damage)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=2000), st.just(b"\x02\x01\x00" * 300)), max_size=8))
def test_memory_is_bounded(chunks: list[bytes]) -> None:
    decoder = FrameDecoder()
    for chunk in chunks:
        decoder.feed(chunk)
        assert decoder.pending < wire.LONGEST + 5


def test_the_handshake_of_the_document() -> None:
    talk = Handshake(wire.EJECT)
    assert talk.to_send == GOLDEN["eject front, no hold"]
    assert talk.hear(Signal.ACK)
    assert talk.to_send == b"\x05"
    assert not talk.hear(Signal.ACK)
    assert not talk.hear(decoded("status: card inside")), "a late answer to something else"
    assert talk.hear(decoded("eject ok"))
    assert talk.reply is not None
    assert not talk.hear(decoded("eject ok")), "a duplicate"


def test_a_reader_that_does_not_wait_for_enq() -> None:
    """protocols 11."""
    talk = Handshake(wire.EJECT)
    assert talk.hear(decoded("eject ok"))
    assert talk.reply is not None


def test_a_refused_frame_is_sent_again_and_then_given_up() -> None:
    talk = Handshake(wire.EJECT)
    for _ in range(wire.RESENDS):
        assert talk.hear(Signal.NAK)
        assert not talk.given_up
        assert talk.to_send == GOLDEN["eject front, no hold"]
    assert talk.hear(Signal.NAK)
    assert talk.given_up
