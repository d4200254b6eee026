"""Files that are on the disk for certain, or not there at all."""

import os
from pathlib import Path


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist yet, flushed to the disk; after FileExistsError or OSError nothing is new."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()
        raise


def put_all(directory: Path, files: dict[str, bytes]) -> None:
    """Write files into `directory`, for their owner alone: all, or after OSError none.

    The last one counts: it appears, also when the power fails, only after the others are there.
    """
    places = [directory / name for name in files]
    moved: list[Path] = []
    try:
        for place, content in zip(places, files.values(), strict=True):
            beside(place).unlink(missing_ok=True)
            write_new(beside(place), content, 0o400)
        for place in places:
            if place is places[-1]:
                sync(directory)
            beside(place).replace(place)
            moved.append(place)
        sync(directory)
    except OSError:
        for path in (*map(beside, places), *moved):
            path.unlink(missing_ok=True)
        raise


def beside(place: Path) -> Path:
    """Return where a file is written before `put_all` moves it to its place."""
    return place.with_name(f".{place.name}.new")


def overwrite(path: Path) -> None:
    """Put random bytes in the place of a file's content; raise OSError. Flash may keep the old blocks."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())


def sync(directory: Path) -> None:
    """Flush the names in a directory; raise OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
