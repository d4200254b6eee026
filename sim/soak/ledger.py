"""What the load generator notes: one JSON line when a trial begins and one when it ends, appended and flushed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

Kind = Literal["trial.record", "trial.health", "trial.call"]
End = Literal["acknowledged", "answered", "not_sent", "refused", "unknown"]
"""A record is acknowledged by the daemon, a call answered by the platform. `not_sent`: it certainly never left."""


class Begun(msgspec.Struct, frozen=True, tag="begun", tag_field="line"):
    """A trial is about to be asked for. A call's `digest` is known at its end only; `at` is monotonic time."""

    id: str
    kind: Kind
    at: float
    digest: str | None = None


class Ended(msgspec.Struct, frozen=True, tag="ended", tag_field="line", omit_defaults=True):
    """What the load generator was told of it. `sequence` is a record's place in its stream."""

    id: str
    end: End
    at: float
    code: str | None = None
    digest: str | None = None
    sequence: int | None = None


class Trial(msgspec.Struct):
    """A trial as the ledger knows it; without an `end` its outcome is unknown as well."""

    kind: Kind
    digest: str | None
    end: End = "unknown"
    code: str | None = None
    sequence: int | None = None


class Ledger:
    """The ledger being written."""

    def __init__(self, file: IO[bytes]) -> None:
        """Append to a file that is open without a buffer."""
        self._file = file

    def begin(self, trial: str, kind: Kind, digest: bytes | None = None) -> None:
        """Note that a trial is about to be asked for."""
        self._write(Begun(trial, kind, time.monotonic(), digest.hex() if digest else None))

    def end(
        self,
        trial: str,
        end: End,
        *,
        code: str | None = None,
        digest: bytes | None = None,
        sequence: int | None = None,
    ) -> None:
        """Note what became of it."""
        self._write(Ended(trial, end, time.monotonic(), code, digest.hex() if digest else None, sequence))

    def _write(self, line: Begun | Ended) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")


def lines(data: bytes) -> Iterator[Begun | Ended]:
    """Read whole lines of a ledger."""
    decoder = msgspec.json.Decoder(Begun | Ended)
    return map(decoder.decode, data.splitlines())


def read(path: Path) -> dict[str, Trial]:
    """Return every trial of a ledger by its id."""
    trials: dict[str, Trial] = {}
    for line in lines(path.read_bytes()):
        match line:
            case Begun(trial, kind, _, digest):
                trials[trial] = Trial(kind, digest)
            case Ended(trial, end, _, code, digest, sequence):
                one = trials[trial]
                one.end, one.code, one.sequence = end, code, sequence
                one.digest = digest or one.digest
    return trials
