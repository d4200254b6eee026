"""Preview sockets: the newest frame, whole or not at all, and never a wait (vision/preview.py)."""

import socket
import time

import cv2
import numpy as np

from vision.preview import PreviewClient, encode_document, encode_face


def frames_in(stream: bytes) -> list[bytes]:
    frames = []
    while stream:
        length = int.from_bytes(stream[:4], "big")
        assert len(stream) >= 4 + length, "a frame was cut"
        frames.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return frames


def test_a_frame_is_a_mirrored_jpeg_with_its_length() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[:, :320] = 255
    frame = encode_face(picture)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    shown = cv2.imdecode(np.frombuffer(frame[4:], np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown[:, :300].max() < 10
    assert shown[:, 340:].min() > 245


def test_a_document_is_shown_as_it_lies_at_a_size_for_a_screen() -> None:
    picture = np.zeros((1944, 2592, 3), np.uint8)
    picture[:, :1296] = 255
    shown = cv2.imdecode(np.frombuffer(encode_document(picture)[4:], np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (768, 1024, 3)
    assert shown[:, :500].min() > 245
    assert shown[:, 524:].max() < 10


def test_a_slow_reader_misses_frames_but_never_part_of_one() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client = PreviewClient(theirs.detach())
        begun = time.monotonic()
        stream = b""
        for number in range(200):
            body = bytes([number]) * 20_000
            assert client.offer(len(body).to_bytes(4, "big") + body)
            if number % 3 == 0:
                stream += ours.recv(5000)
        assert time.monotonic() - begun < 1, "offering never waits"
        ours.setblocking(False)
        while client._rest or stream[-1:] != body[-1:]:
            assert client.offer(None if client._rest else (20_000).to_bytes(4, "big") + body)
            stream += ours.recv(1_000_000)
        client.close()
        numbers = [frame[0] for frame in frames_in(stream) if len(set(frame)) == 1]
        assert len(numbers) == len(frames_in(stream))
        assert numbers == sorted(numbers)
        assert 1 < len(numbers) < 200


def test_a_client_that_went_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    client = PreviewClient(theirs.detach())
    assert client.offer(None)
    ours.close()
    assert not client.offer(b"\0\0\0\1x")
    client.close()
