"""The rig's card photo: 102x126 pixels in 1,024 bytes, lossy. Not the real card's WLT (docs/rig-photo.md).

`RIGP`, version 1, the length of the picture (2 bytes, big-endian), a lossy WebP picture, zeros to 1,024 bytes.
"""

import bisect
import io
import struct

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 102, 126
BLOCK_BYTES = 1024
_HEADER = struct.Struct(">4sBH")
_MAGIC, _VERSION = b"RIGP", 1
_WEBP = struct.Struct("<4sI4s4sI3s3sHH")
_KEY_FRAME = b"\x9d\x01\x2a"


def encode(image: Image) -> bytes:
    """Return the 1,024-byte block of a 126x102x3 BGR picture, at the best quality that fits.

    ValueError for another shape, or for a picture too busy for the room.
    """
    from PIL import Image as Pillow

    if image.shape != (HEIGHT, WIDTH, 3):
        raise ValueError(f"a card photo is {HEIGHT}x{WIDTH}x3, not {image.shape}")
    picture = Pillow.fromarray(np.ascontiguousarray(image[:, :, ::-1]))

    def webp(quality: int) -> bytes:
        stream = io.BytesIO()
        picture.save(stream, "webp", quality=quality, method=6)
        return stream.getvalue()

    room = BLOCK_BYTES - _HEADER.size
    fitting = bisect.bisect_right(range(101), room, key=lambda quality: len(webp(quality)))
    if not fitting:
        raise ValueError(f"the picture needs {len(webp(0))} bytes even at the lowest quality; there are {room}")
    payload = webp(fitting - 1)
    return (_HEADER.pack(_MAGIC, _VERSION, len(payload)) + payload).ljust(BLOCK_BYTES, b"\0")


def decode(block: bytes) -> Image:
    """Return the picture of a block: 126x102x3, BGR, top row first. ValueError for anything but such a block."""
    if len(block) != BLOCK_BYTES:
        raise ValueError(f"a photo block has {BLOCK_BYTES} bytes, not {len(block)}")
    magic, version, length = _HEADER.unpack_from(block)
    payload, padding = block[_HEADER.size : _HEADER.size + length], block[_HEADER.size + length :]
    if (magic, version) != (_MAGIC, _VERSION) or len(payload) != length or any(padding):
        raise ValueError("not a photo block of the rig")
    _check_size(payload)
    try:
        image = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError("the picture in the block is damaged") from error
    if image is None or image.shape != (HEIGHT, WIDTH, 3):
        raise ValueError("the picture in the block is damaged")
    return image.astype(np.uint8, copy=False)


def _check_size(payload: bytes) -> None:
    """Refuse all but a simple lossy WebP of the right size, before a decoder makes room for it (RFC 9649, 6386)."""
    if len(payload) < _WEBP.size:
        raise ValueError("the picture in the block is cut short")
    riff, _, webp, chunk, _, _, start, width, height = _WEBP.unpack_from(payload)
    if (riff, webp, chunk, start) != (b"RIFF", b"WEBP", b"VP8 ", _KEY_FRAME):
        raise ValueError("the picture in the block is no lossy WebP")
    if (width & 0x3FFF, height & 0x3FFF) != (WIDTH, HEIGHT):
        raise ValueError(f"the picture in the block is not {WIDTH}x{HEIGHT}")
