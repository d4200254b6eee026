"""What the sensor makes of a finger: a template tagged with its format, a picture, a decision (T3, protocols 2.5)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from devices.fingerprint.protocol import IMAGE_BYTES, IMAGE_HEIGHT, IMAGE_WIDTH
from devices.personal import PersonalBytes, wipe


class TemplateFormat(StrEnum):
    """Formats of a finger's features. Equal sizes mean nothing: each format has an algorithm of its own."""

    ZFM_256 = "zfm-256"
    ZFM_512 = "zfm-512"
    GAT_1012 = "ga/t-1012"
    """The record of an identity card (512 bytes); comparing it needs a licensed algorithm."""

    @property
    def size(self) -> int:
        """Bytes of a template of this format."""
        return 256 if self is TemplateFormat.ZFM_256 else 512


@dataclass(frozen=True, slots=True)
class Template:
    """Somebody's finger in the features of one format."""

    format: TemplateFormat
    data: PersonalBytes

    def __post_init__(self) -> None:
        if len(self.data) != self.format.size:
            raise ValueError(f"a template {self.format} has {self.format.size} bytes, not {len(self.data)}")

    def wipe(self) -> None:
        """Overwrite the features."""
        self.data.wipe()


@dataclass(frozen=True, slots=True)
class FingerImage:
    """A picture of a finger: rows top down, one byte a pixel, of which `depth` bits are measured.

    `fap` is the highest FAP level (PIV-071006) that the picture meets, None when it meets none.
    """

    pixels: PersonalBytes
    width: int = IMAGE_WIDTH
    height: int = IMAGE_HEIGHT
    depth: int = 4
    fap: int | None = None

    def wipe(self) -> None:
        """Overwrite the picture."""
        self.pixels.wipe()


@dataclass(frozen=True, slots=True)
class MatchResult:
    """The module's own decision at its security level; `score` is its figure, None when it tells none."""

    matched: bool
    score: int | None
    security_level: int


class Guidance(StrEnum):
    """What the citizen is asked to do."""

    PLACE = "finger.place"
    LIFT = "finger.lift"
    HOLD_STILL = "finger.hold_still"
    WIPE = "finger.wipe"
    PRESS = "finger.press"


GuidanceListener = Callable[[str], None]
"""Called with a Guidance when it changes."""


_LEFT = bytes((byte >> 4) * 17 for byte in range(256))
_RIGHT = bytes((byte & 0x0F) * 17 for byte in range(256))


def expand_pixels(packed: bytearray) -> PersonalBytes:
    """Return 8-bit pixels for the module's 4-bit ones, the high nibble left (protocols 2.1)."""
    if len(packed) != IMAGE_BYTES:
        raise ValueError(f"an image has {IMAGE_BYTES} bytes, not {len(packed)}")
    left, right, pixels = packed.translate(_LEFT), packed.translate(_RIGHT), bytearray(2 * len(packed))
    pixels[0::2], pixels[1::2] = left, right
    try:
        return PersonalBytes(pixels)
    finally:
        for buffer in (left, right, pixels):
            wipe(buffer)
