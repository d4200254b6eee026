"""From picture files to embeddings: detect, align, embed, each once; kept by the hashes of picture, models and code."""

import functools
import hashlib
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from vision.align import align
from vision.detect import Face, detect
from vision.embed import embed
from vision.errors import VisionError
from vision.evaluation.chip import as_chip
from vision.evaluation.comparisons import Described
from vision.evaluation.images import Listed, decode_picture
from vision.models import Image, Models
from vision.reference import reference_face

Reference = Literal["chip", "full"]
Failure = Literal["unreadable", "too_large", "no_face", "no_face_in_chip", "many_faces_in_chip"]
Stage = Literal["decode", "detect", "chip", "align", "embed"]

_FOLDER = Path(__file__).parent
_SOURCES = (
    *("acquire.py", "chip.py", "images.py"),
    *("../align.py", "../detect.py", "../embed.py", "../quality.py", "../reference.py"),
)
_FAILURES: dict[str, Failure] = {"photo.no_face": "no_face_in_chip", "photo.many_faces": "many_faces_in_chip"}
_SCHEMA = "CREATE TABLE IF NOT EXISTS faces (key TEXT PRIMARY KEY, seen BLOB NOT NULL)"


class Seen(msgspec.Struct, array_like=True):
    """What came of one picture: embeddings (float32) in full and as a chip, or why not; milliseconds by stage.

    The times are the processor's own, so that other programs do not count.
    """

    failure: Failure | None = None
    full: bytes = b""
    chip: bytes = b""
    milliseconds: dict[Stage, float] = msgspec.field(default_factory=dict)


class Cache:
    """What came of the pictures of earlier runs.

    An embedding is personal data of the person shown: only the owner of the directory may read it, and a directory
    inside a repository is refused (`cache.in_repository`), so that none is ever committed.
    """

    def __init__(self, directory: Path) -> None:
        path = directory.resolve()
        if any((parent / ".git").exists() for parent in (path, *path.parents)):
            advice = "name a directory outside with --cache"
            message = f"{directory} is inside a repository: embeddings do not belong there"
            raise VisionError("cache.in_repository", message, advice=advice, retry=False)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (path / "faces.db").touch(mode=0o600)
            self._connection = sqlite3.connect(
                path / "faces.db", isolation_level=None, check_same_thread=False, timeout=60
            )
            for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF", _SCHEMA):
                self._connection.execute(statement).close()
        except (OSError, sqlite3.Error) as error:
            message, advice = f"{directory} cannot keep embeddings: {error}", "name another directory with --cache"
            raise VisionError("cache.unusable", message, advice=advice, retry=False) from error
        self._lock = threading.Lock()

    def get(self, key: str) -> Seen | None:
        """Return what came of a picture, None when it is not known or its row is damaged."""
        with self._lock, closing(self._connection.execute("SELECT seen FROM faces WHERE key = ?", (key,))) as rows:
            row = rows.fetchone()
        try:
            return msgspec.msgpack.decode(row[0], type=Seen) if row else None
        except msgspec.DecodeError:
            return None

    def put(self, key: str, seen: Seen) -> None:
        """Keep what came of a picture."""
        with self._lock:
            row = (key, msgspec.msgpack.encode(seen))
            self._connection.execute("INSERT OR REPLACE INTO faces VALUES (?, ?)", row).close()

    def close(self) -> None:
        """Close."""
        self._connection.close()


@dataclass(slots=True)
class Acquired:
    """What came of the listed pictures: failures by picture, and the mean milliseconds of each stage."""

    described: Described
    failures: dict[int, Failure] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)


def acquire(
    models: Models,
    cache: Cache,
    root: Path,
    listed: Sequence[Listed],
    *,
    reference: Reference,
    progress: Callable[[int], object] = lambda _: None,
) -> Acquired:
    """Describe every picture of the list, as a chip reference as well if wanted, on every core; not adapted yet.

    VisionError `images.missing` when a listed file cannot be read: a measurement never leaves one out unasked.
    """
    numbers = models.adaptation.probe_mean.shape[0]
    names = {subject: at for at, subject in enumerate(dict.fromkeys(picture.subject for picture in listed))}
    full, chip = (np.zeros((len(listed), numbers), np.float32) for _ in range(2))
    acquired = Acquired(
        Described(
            subjects=np.array([names[picture.subject] for picture in listed], np.int64),
            references=chip if reference == "chip" else full,
            frames=full,
            referable=np.zeros(len(listed), np.bool_),
            usable=np.zeros(len(listed), np.bool_),
        )
    )
    times: dict[Stage, list[float]] = {}
    way = _way(models)
    looks = [functools.partial(_look, models, cache, root / one.path, reference, way) for one in listed]
    for at, seen in enumerate(_on_every_core(looks)):
        if seen.full:
            full[at] = np.frombuffer(seen.full, np.float32)
            acquired.described.usable[at] = True
        if described := seen.chip if reference == "chip" else seen.full:
            acquired.described.references[at] = np.frombuffer(described, np.float32)
            acquired.described.referable[at] = True
        if seen.failure:
            acquired.failures[at] = seen.failure
        for stage, milliseconds in seen.milliseconds.items():
            times.setdefault(stage, []).append(milliseconds)
        progress(at + 1)
    acquired.milliseconds = {stage: float(np.mean(spent)) for stage, spent in times.items()}
    return acquired


def _on_every_core(looks: Sequence[Callable[[], Seen]]) -> Iterator[Seen]:
    """Yield what they return, in their order; the first error ends them all."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="acquire") as pool:
        warnings.simplefilter("ignore")  # Pillow's, about damaged pictures: they are counted as failures
        try:
            yield from pool.map(lambda look: look(), looks)
        finally:
            pool.shutdown(cancel_futures=True)


def main_face(faces: Sequence[Face], picture: Image) -> Face:
    """Return the face that a picture of one person shows: large and in the middle."""
    height, width = picture.shape[:2]

    def prominence(face: Face) -> float:
        off = (face.box[:2] + face.box[2:] / 2) / (width, height) - 0.5
        return face.eye_distance * (1 - float(np.hypot(*off)))

    return max(faces, key=prominence)


def _look(models: Models, cache: Cache, path: Path, reference: Reference, way: str) -> Seen:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        advice = "--root is the directory that the paths of the list begin at"
        raise VisionError("images.missing", f"{path}: {error}", advice=advice, retry=False) from error
    key = f"{hashlib.sha256(data).hexdigest()} {reference} {way}"
    seen = cache.get(key)
    if seen is None:
        seen = Seen()
        _describe(models, data, reference, seen)
        cache.put(key, seen)
    return seen


def _describe(models: Models, data: bytes, reference: Reference, seen: Seen) -> None:
    with _timed(seen, "decode"):
        picture = decode_picture(data)
    if isinstance(picture, str):
        seen.failure = picture
        return
    with _timed(seen, "detect"):
        faces = detect(models.detector, picture)
    if not faces:
        seen.failure = "no_face"
        return
    face = main_face(faces, picture)
    seen.full = _embedded(models, picture, face, seen)
    if reference == "chip":
        with _timed(seen, "chip"):
            photo = as_chip(picture, face.landmarks)
        try:
            seen.chip = _embedded(models, photo, reference_face(models.detector, photo), seen)
        except VisionError as error:
            seen.failure = _FAILURES[error.code]


def _embedded(models: Models, picture: Image, face: Face, seen: Seen) -> bytes:
    with _timed(seen, "align"):
        aligned = align(picture, face.landmarks)
    with _timed(seen, "embed"):
        return embed(models.recogniser, aligned).tobytes()


@contextmanager
def _timed(seen: Seen, stage: Stage) -> Iterator[None]:
    begun = time.thread_time()
    yield
    seen.milliseconds[stage] = (time.thread_time() - begun) * 1000


def _way(models: Models) -> str:
    """Return a hash of everything but the picture that an embedding depends on: models, their input, code."""
    way = hashlib.sha256(msgspec.json.encode([models.detector.entry, models.recogniser.entry]))
    for source in _SOURCES:
        way.update((_FOLDER / source).read_bytes())
    return way.hexdigest()
