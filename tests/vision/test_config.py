"""The cameras in `[vision]` (vision/config.py)."""

import msgspec

from vision.config import Vision

FACE, DOCUMENT = "/dev/v4l/by-id/usb-Face-video-index0", "/dev/v4l/by-id/usb-Document-video-index0"


def converted(**settings: object) -> Vision:
    return msgspec.convert({"camera": FACE, **settings}, Vision)


def test_the_cameras_of_the_terminal() -> None:
    assert converted().cameras == {"face": FACE}
    assert converted(document_camera=DOCUMENT).cameras == {"face": FACE, "document": DOCUMENT}


def test_five_megapixels_unless_told_otherwise() -> None:
    """T2."""
    settings = converted(document_camera=DOCUMENT)
    assert (settings.document_width, settings.document_height) == (2592, 1944)
    assert settings.document_width * settings.document_height >= 5_000_000
