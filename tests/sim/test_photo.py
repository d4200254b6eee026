"""The rig's card photo: bytes as docs/rig-photo.md has them, and any others refused."""

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.photo import BLOCK_BYTES, HEIGHT, WIDTH, decode, encode


def picture() -> np.ndarray:
    """A smooth picture with an edge, so that the wrong way up would show."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([columns * 2, rows * 2, (rows + columns)], axis=-1).astype(np.uint8)
    cv2.circle(image, (51, 40), 20, (90, 140, 220), -1)
    return image


BLOCK = encode(picture())


def test_layout_is_the_documented_one():
    assert len(BLOCK) == 1024
    assert BLOCK[:5] == b"RIGP\x01"
    (length,) = struct.unpack(">H", BLOCK[5:7])
    assert BLOCK[7:11] == b"RIFF"
    assert BLOCK[15:23] == b"WEBPVP8 "
    assert BLOCK[7 + length :] == bytes(1024 - 7 - length)


def test_a_picture_survives_with_little_loss():
    decoded = decode(BLOCK)
    assert decoded.shape == (126, 102, 3)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - picture()).mean() < 6


def test_the_room_is_used():
    """A busier picture gets a lower quality, not a larger block; a plain one a shorter picture."""
    noisy = np.clip(picture() + np.random.default_rng(1).normal(0, 12, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    block = encode(noisy)
    assert len(block) == BLOCK_BYTES
    assert struct.unpack(">H", block[5:7])[0] > 900
    assert struct.unpack(">H", encode(np.full_like(noisy, 128))[5:7])[0] < 200


def test_what_is_no_card_photo_is_refused():
    with pytest.raises(ValueError, match="126x102x3"):
        encode(np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(ValueError, match="lowest quality"):
        encode(np.random.default_rng(1).choice([np.uint8(0), np.uint8(255)], (HEIGHT, WIDTH, 3)))


def wrap(payload: bytes) -> bytes:
    return (b"RIGP\x01" + struct.pack(">H", len(payload)) + payload).ljust(BLOCK_BYTES, b"\0")


def webp(height: int, width: int, quality: int) -> bytes:
    done, data = cv2.imencode(".webp", np.zeros((height, width, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done
    return data.tobytes()


@pytest.mark.parametrize(
    "block",
    [
        b"",
        BLOCK[:-1],
        BLOCK + b"\0",
        bytes(1024),
        b"WLf\0" + bytes(1020),
        b"RIGP\x02" + BLOCK[5:],
        BLOCK[:-1] + b"\1",
        b"RIGP\x01\xff\xff" + BLOCK[7:],
        wrap(b""),
        wrap(webp(126, 102, 101)),
        wrap(webp(102, 126, 50)),
        wrap(webp(2000, 2000, 0)[:1000]),
        wrap(BLOCK[7:40]),
    ],
)
def test_other_blocks_are_refused(block: bytes):
    with pytest.raises(ValueError, match="block"):
        decode(block)


def never_crashes(block: bytes) -> None:
    try:
        image = decode(block)
    except ValueError:
        return
    assert image.shape == (126, 102, 3)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=1100))
def test_any_bytes(block: bytes):
    never_crashes(block)
    never_crashes(block.ljust(BLOCK_BYTES, b"\0"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=900))
def test_any_picture_data_behind_a_good_header(data: bytes):
    never_crashes(wrap(BLOCK[7:37] + data))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, BLOCK_BYTES * 8 - 1))
def test_one_flipped_bit(bit: int):
    block = bytearray(BLOCK)
    block[bit // 8] ^= 1 << bit % 8
    never_crashes(bytes(block))
