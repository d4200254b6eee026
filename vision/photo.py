"""Decoders of the card's photo block: the vendor's shared library, or the rig's own (protocols 1.7).

The real card's codec (WLT) is closed. A configured library is called as `int f(const unsigned char *block, unsigned
char *bgr, int size)`: 1,024 bytes in; 102x126 pixels out, BGR, 306 bytes a row without padding, bottom row first, so
`size` is 38,556; it returns 1 when it decoded. docs/models.md tells how to wrap a library that differs.
"""

import ctypes
import importlib.metadata
from collections.abc import Callable

import numpy as np

from vision.config import Vision
from vision.errors import VisionError
from vision.models import Image

Decoder = Callable[[bytes], Image]
"""Turns a photo block into 126x102x3 BGR, top row first; raises VisionError `photo.undecodable`."""

BLOCK_BYTES = 1024
WIDTH, HEIGHT = 102, 126
_PIXEL_BYTES = WIDTH * HEIGHT * 3
_GUARD_BYTES = 4096
_DECODED = 1


def open_decoder(settings: Vision, *, rig: bool) -> Decoder:
    """Return the configured decoder.

    VisionError `photo.decoder_not_allowed` for the rig's decoder on a terminal that is not a rig, and
    `photo.decoder_missing` when the library, its function or the rig's plug-in cannot be had.
    """
    if settings.photo_decoder == "library":
        return _library_decoder(settings)
    if not rig:
        message = "the rig's photo decoder is not allowed on a real terminal"
        advice = 'set photo_decoder = "library" and photo_library to the vendor\'s'
        raise VisionError("photo.decoder_not_allowed", message, advice=advice, retry=False)
    return _rig_decoder()


def _library_decoder(settings: Vision) -> Decoder:
    if settings.photo_library is None:
        raise _missing("no photo_library is configured")
    try:
        function = ctypes.CDLL(settings.photo_library)[settings.photo_symbol]
    except (OSError, AttributeError) as error:
        raise _missing(str(error)) from error
    function.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
    function.restype = ctypes.c_int

    def decode(block: bytes) -> Image:
        if len(block) != BLOCK_BYTES:
            raise _undecodable(f"a photo block has {BLOCK_BYTES} bytes, not {len(block)}")
        pixels = np.zeros(_PIXEL_BYTES + _GUARD_BYTES, np.uint8)
        try:
            answer = function(block, pixels.ctypes.data, _PIXEL_BYTES)
            if answer != _DECODED:
                raise _undecodable(f"the decoder returned {answer}")
            if pixels[_PIXEL_BYTES:].any():
                raise _undecodable("the decoder wrote more than a picture")
            bottom_up = pixels[:_PIXEL_BYTES].reshape(HEIGHT, WIDTH, 3)
            return bottom_up[::-1].copy()
        finally:
            pixels.fill(0)

    return decode


def _rig_decoder() -> Decoder:
    plugins = importlib.metadata.entry_points(group="govterm.rig", name="photo_decoder")
    if not plugins:
        raise _missing("the rig is not installed")
    decode_block: Decoder = next(iter(plugins)).load()

    def decode(block: bytes) -> Image:
        try:
            return decode_block(block)
        except ValueError as error:
            raise _undecodable(str(error)) from error

    return decode


def _missing(detail: str) -> VisionError:
    advice = "set photo_library and photo_symbol to the vendor's decoder"
    return VisionError("photo.decoder_missing", f"no photo decoder: {detail}", advice=advice, retry=False)


def _undecodable(detail: str) -> VisionError:
    advice = "read the card again; if it stays so, the card or the reader is damaged"
    return VisionError("photo.undecodable", f"the card's photo cannot be decoded: {detail}", advice=advice, retry=True)
