"""Configuration of the peripherals (`[idcard]`, `[printer]`)."""

from typing import Annotated

import msgspec
from msgspec import Meta


class IdCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ID-card reader (SAM-V over a serial line)."""

    port: Annotated[str, Meta(min_length=1, description="Serial port; use a name under /dev/serial/by-id.")]
    baud: Annotated[int, Meta(ge=9600, le=115200, description="Line rate in bit/s.")] = 115200
    card_wait_seconds: Annotated[
        float, Meta(gt=0, le=300, description="How long a citizen may take to lay the card down.")
    ] = 60.0


class Printer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The receipt printer (ESC/POS over a serial line)."""

    port: Annotated[str, Meta(min_length=1, description="Serial port; use a name under /dev/serial/by-id.")]
    baud: Annotated[int, Meta(ge=9600, le=921600, description="Line rate in bit/s.")] = 115200
    width_dots: Annotated[
        int,
        Meta(
            ge=384,
            le=832,
            multiple_of=8,
            description="Printable width in dots: 576 on 80 mm paper, 384 on 58 mm.",
        ),
    ] = 576
    dots_per_inch: Annotated[int, Meta(ge=180, le=300, description="Resolution of the print head.")] = 203
