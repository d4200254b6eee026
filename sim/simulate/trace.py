"""What happened in a run, line by line: times and ordinals only, so that equal seeds give equal traces."""

import hashlib
from collections.abc import Callable
from pathlib import Path


class Trace:
    """Lines of virtual time and words. Identifiers are random: a trace names them by the order of their first sight."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lines: list[str] = []
        self._clock = clock
        self._digest = hashlib.sha256()
        self._names: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def tell(self, what: str) -> None:
        """Note that something happens now."""
        line = f"{self._clock():12.3f}  {what}"
        self.lines.append(line)
        self._digest.update(line.encode() + b"\n")

    def name(self, kind: str, identifier: str) -> str:
        """Return what a thing of a random identifier is called: `order 2`."""
        key = f"{kind} {identifier}"
        if key not in self._names:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._names[key] = f"{kind} {self._counts[kind]}"
        return self._names[key]

    @property
    def now(self) -> float:
        """The virtual time."""
        return self._clock()

    @property
    def digest(self) -> str:
        """SHA-256 of all lines so far."""
        return self._digest.hexdigest()

    def write(self, file: Path) -> None:
        """Write every line to a file."""
        file.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
