"""What the hall notes of every citizen, and how the soak follows it."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from sim.citizens.plan import Visit

_POLL_SECONDS = 0.05


class Came(msgspec.Struct, frozen=True, tag="came", tag_field="line"):
    """A citizen comes; `at` is monotonic time, the same in every process."""

    citizen: int
    visit: Visit
    at: float


class Left(msgspec.Struct, frozen=True, tag="left", tag_field="line"):
    """The same citizen goes: served, or `why` not; `receipts` are the numbers of what was filed and registered."""

    citizen: int
    at: float
    why: str | None
    receipts: list[str]


class Visitors:
    """The growing file of citizens."""

    def __init__(self, path: Path, wanted: Path) -> None:
        """Read what the hall writes to `path`, and tell it by the file `wanted` what the next citizens come for."""
        self.came: dict[int, Came] = {}
        self.left: list[Left] = []
        self._path = path
        self._wanted = wanted
        self._read = 0

    @property
    def served(self) -> list[Left]:
        """Those who got what they came for."""
        return [left for left in self.left if left.why is None]

    def look(self) -> None:
        """Read what is new."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in lines(whole):
                if isinstance(line, Came):
                    self.came[line.citizen] = line
                else:
                    self.left.append(line)

    def want(self, visit: Visit | None) -> None:
        """Let the next citizens come for this; None lets them come as they like."""
        if visit is None:
            self._wanted.unlink(missing_ok=True)
        else:
            new = self._wanted.with_suffix(".new")
            new.write_text(visit, encoding="ascii")
            new.replace(self._wanted)

    async def next_one(self) -> Came:
        """Wait until a citizen comes."""
        before = time.monotonic()
        while True:
            self.look()
            if self.came and (last := self.came[max(self.came)]).at >= before:
                return last
            await asyncio.sleep(_POLL_SECONDS)

    async def served_since(self, since: float, visit: Visit | None) -> float:
        """Wait until a citizen who came after `since`, for `visit` where one is named, was served; return when."""
        while True:
            self.look()
            for left in reversed(self.left):
                came = self.came[left.citizen]
                if left.why is None and came.at >= since and visit in (None, came.visit):
                    return left.at
            await asyncio.sleep(_POLL_SECONDS)


def lines(data: bytes) -> Iterator[Came | Left]:
    """Read whole lines of a file of citizens."""
    decoder = msgspec.json.Decoder(Came | Left)
    return map(decoder.decode, data.splitlines())


def write(file: IO[bytes], line: Came | Left) -> None:
    """Append a line to a file that is open without a buffer."""
    file.write(msgspec.json.encode(line) + b"\n")
