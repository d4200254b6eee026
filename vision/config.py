"""Configuration of the vision process (`[vision]`)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from vision.verifier import CameraName


class Vision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The vision process: cameras, models and the decoders of foreign pictures."""

    camera: Annotated[
        str,
        Meta(min_length=1, description="Face camera; a path under /dev/v4l/by-id, or `rig:SOCKET` on the rig."),
    ]
    document_camera: Annotated[
        str | None,
        Meta(description="Document camera, named as `camera` is; none when left out."),
    ] = None
    document_width: Annotated[
        int, Meta(ge=640, le=10_000, description="Pixels across that the document camera must give (T2).")
    ] = 2592
    document_height: Annotated[
        int, Meta(ge=480, le=10_000, description="Pixels down that the document camera must give (T2).")
    ] = 1944
    model_directory: Annotated[
        str, Meta(min_length=1, description="Where `govterm models prepare` put the models.")
    ] = "/var/lib/govterm-models"
    model_manifest: Annotated[
        str | None,
        Meta(description="Manifest of the operator's own models; this package's when left out."),
    ] = None
    model_memory_mib: Annotated[
        float, Meta(ge=16, le=4096, description="Loading the face models may take this much memory, in MiB.")
    ] = 256.0
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
    operating_point: Annotated[
        Literal["1e-4", "1e-5", "1e-6"],
        Meta(description="Rate of false matches that a face decision may have (T9); names a calibrated threshold."),
    ] = "1e-5"
    check_seconds: Annotated[
        float, Meta(gt=0, le=30, description="Deadline of the machine's part of a face check (T13).")
    ] = 5.0
    challenge: Annotated[
        int,
        Meta(
            ge=0,
            le=3,
            description="Movements that a check asks for, against photos and replays (T9); 0 leaves the passive signs.",
        ),
    ] = 2
    challenge_seconds: Annotated[
        float,
        Meta(gt=0, le=60, description="What a check may take longer than `check_seconds` when it asks for movements."),
    ] = 15.0
    hung_seconds: Annotated[
        float, Meta(ge=1, le=60, description="A vision process that answers nothing for this long is killed.")
    ] = 5.0
    memory_mib: Annotated[
        float, Meta(ge=128, le=16_384, description="A vision process that has grown beyond this, in MiB, is killed.")
    ] = 1_024.0

    @property
    def verify_seconds(self) -> float:
        """Deadline of a whole face check, the person's movements included."""
        return self.check_seconds + (self.challenge_seconds if self.challenge else 0.0)

    @property
    def cameras(self) -> dict[CameraName, str]:
        """Where each camera of the terminal is."""
        faces: dict[CameraName, str] = {"face": self.camera}
        return faces | ({"document": self.document_camera} if self.document_camera else {})
