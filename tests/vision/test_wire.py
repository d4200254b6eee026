"""The control protocol between daemon and vision process (vision/wire.py)."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision import wire
from vision.attack.result import LayerResult
from vision.config import Vision
from vision.page_report import Document, PageQuality, PageReport, Progress
from vision.verifier import CameraStatus, Raster, Verification

LAYERS = (LayerResult("grid", "bona_fide", 0.4, None, {"peak": 0.9}), LayerResult("challenge", "undecided"))
STAGES = {"detect": 0.03}
VERIFICATION = Verification("match", 0.8, 0.5, "1e-5", 9e-6, 3, "sface", "bona_fide", LAYERS, 0.2, STAGES)

PAGE = PageReport(
    1, 1, "front", 1654, 2339, 163.5, ((1.5, 2.0),) * 4, 0.9, None, PageQuality(0, 0, 2.1, 230, 0.4, None)
)

REQUESTS = [
    wire.Start(Vision(camera="usb-camera"), rig=True),
    wire.Verify(1, b"\0\xff" * 512, 5.0),
    wire.Rasterise(2, b"%PDF-", 576, 4, 5.0),
    wire.Preview(3),
    wire.Preview(3, "document"),
    wire.BeginDocument(6, "card", "black_white", 2),
    wire.AddPage(6, None, 5.0),
    wire.AddPage(6, 3, 5.0),
    wire.ShowPage(7, 1),
    wire.FinishDocument(8, 4_000_000, 20.0),
    wire.DiscardDocument(9),
    wire.Wipe(4),
    wire.Cancel(5),
    wire.Ping(),
]
REPLIES = [
    wire.Ready(0.5),
    wire.Guidance(1, "face.none"),
    wire.Verified(1, VERIFICATION),
    wire.Rasterised(2, [Raster(8, 2, b"\xaa\x55")]),
    wire.Progressed(6, Progress("find", 1, 1)),
    wire.PageAdded(6, PAGE),
    wire.Finished(8, Document(2, b"%PDF-")),
    wire.CameraChanged(CameraStatus("document", "lost", "camera.missing")),
    wire.Done(3),
    wire.Failed(4, "camera.lost", "gone", "look", retry=True),
    wire.Pong(0.0, 220.5, 0),
]


def test_golden_frame() -> None:
    """The bytes the MessagePack specification asks for: a fixmap of 1, fixstr `type`, fixstr `Ping`."""
    golden = bytes.fromhex("0000000b 81 a474797065 a450696e67")
    assert wire.encode(wire.Ping()) == golden
    assert wire.FrameDecoder().feed(golden) == [golden[4:]]
    assert wire.decode_request(golden[4:]) == wire.Ping()


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda message: type(message).__name__)
def test_requests_come_back(request_: wire.Request) -> None:
    (body,) = wire.FrameDecoder().feed(wire.encode(request_))
    assert wire.decode_request(body) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=lambda message: type(message).__name__)
def test_replies_come_back(reply: wire.Reply) -> None:
    (body,) = wire.FrameDecoder().feed(wire.encode(reply))
    assert wire.decode_reply(body) == reply


@given(st.lists(st.sampled_from(REQUESTS + REPLIES), max_size=6), st.lists(st.integers(1, 700), max_size=40))
def test_any_chunking_gives_the_same_frames(messages: list[wire.Request | wire.Reply], sizes: list[int]) -> None:
    stream = b"".join(map(wire.encode, messages))
    decoder, bodies = wire.FrameDecoder(), []
    for size in sizes:
        bodies += decoder.feed(stream[:size])
        stream = stream[size:]
    bodies += decoder.feed(stream)
    assert bodies == [wire.encode(message)[4:] for message in messages]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_wire_error(body: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_reply):
        try:
            message = decode(body)
        except wire.WireError:
            continue
        assert isinstance(message, msgspec.Struct)


@given(st.sampled_from(REQUESTS + REPLIES), st.data())
@settings(max_examples=200)
def test_a_flipped_bit_is_a_message_or_a_wire_error(message: wire.Request | wire.Reply, data: st.DataObject) -> None:
    frame = bytearray(wire.encode(message))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    decode = wire.decode_request if message in REQUESTS else wire.decode_reply
    decoded: list[wire.Request | wire.Reply] = []
    with contextlib.suppress(wire.WireError):
        decoded += map(decode, wire.FrameDecoder().feed(bytes(frame)))
    assert all(isinstance(one, msgspec.Struct) for one in decoded)
    assert len(decoded) <= 1


@given(st.binary(max_size=2000))
def test_memory_is_bounded_and_given_frames_are_overwritten(garbage: bytes) -> None:
    decoder = wire.FrameDecoder(limit_bytes=64)
    try:
        for start in range(0, len(garbage), 50):
            decoder.feed(garbage[start : start + 50])
            assert len(decoder._buffer) <= 4 + 64
    except wire.WireError:
        assert len(decoder._buffer) <= 4 + 64 + 50


def test_a_long_frame_is_refused_at_its_header() -> None:
    with pytest.raises(wire.WireError, match="announced"):
        wire.FrameDecoder().feed((wire.LIMIT_BYTES + 1).to_bytes(4, "big"))


def test_a_long_message_is_not_sent() -> None:
    with pytest.raises(wire.WireError, match="Rasterise"):
        wire.encode(wire.Rasterise(1, bytes(wire.LIMIT_BYTES), 576, 1, 5.0))


def test_the_error_does_not_quote_the_body() -> None:
    """T20: a message may be a photo."""
    with pytest.raises(wire.WireError) as caught:
        wire.decode_request(b"\xa8citizen!")
    assert "citizen" not in str(caught.value)
    assert caught.value.__suppress_context__
