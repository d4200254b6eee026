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

    def __post_init__(self) -> None:
        """Refuse a document camera that is the face camera, or not named by an absolute path."""
        if self.document_camera is None:
            return
        if not self.document_camera.removeprefix("rig:").startswith("/"):
            raise ValueError("document_camera is an absolute path")
        if self.document_camera == self.camera:
            raise ValueError("camera and document_camera are two cameras")

    @property
    def cameras(self) -> dict[CameraName, str]:
        """Where each camera of the terminal is."""
        faces: dict[CameraName, str] = {"face": self.camera}
        return faces | ({"document": self.document_camera} if self.document_camera else {})
