"""Configuration of the vision process (`[vision]`)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Vision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The vision process: face camera, models and the decoders of foreign pictures."""

    camera: Annotated[
        str,
        Meta(min_length=1, description="Face camera; a path under /dev/v4l/by-id, or `rig:SOCKET` on the rig."),
    ]
    model_directory: Annotated[
        str, Meta(min_length=1, description="Where `govterm models prepare` put the models.")
    ] = "/var/lib/govterm-models"
    photo_decoder: Annotated[
        Literal["library", "rig"],
        Meta(description="Decoder of the card's photo block: `library` is the vendor's, `rig` is the rig's own."),
    ] = "library"
    photo_library: Annotated[
        str | None, Meta(description='The vendor\'s shared library for `photo_decoder = "library"`.')
    ] = None
    photo_symbol: Annotated[
        str,
        Meta(
            min_length=1,
            description="Its function `int f(const unsigned char *block, unsigned char *bgr, int size)`.",
        ),
    ] = "unpack"
    frames: Annotated[int, Meta(ge=1, le=9, description="Frames averaged for a decision.")] = 3
    check_seconds: Annotated[
        float, Meta(gt=0, le=30, description="Deadline of the machine's part of a face check (T13).")
    ] = 5.0
    hung_seconds: Annotated[
        float, Meta(ge=1, le=60, description="A vision process that answers nothing for this long is killed.")
    ] = 5.0
