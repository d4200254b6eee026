"""What the citizens were told, one JSON line for each call: whoever counts at the platform compares with this."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from runtime.client import ClientError, RpcError
from sim.citizens.plan import Visit

R = TypeVar("R")

Step = tuple[str, str, str | None, float]
"""Name, outcome, code and seconds of a step: the same in a call's answer and in its supervision event."""

_SERVED = ("done", "pending")


class Line(msgspec.Struct, frozen=True):
    """One call. `seconds` is by the caller's clock; `outcome` is None where the method has no steps."""

    citizen: int
    visit: Visit
    method: str
    seconds: float
    outcome: str | None
    code: str | None
    steps: list[Step]


class NotServed(Exception):
    """A citizen did not get what they came for; `retry` says whether trying again may help."""

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class Ledger:
    """Notes the calls of one citizen after the other, in a file that grows by whole lines."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder()
        self.citizen = 0
        self.visit: Visit = "certificate"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    async def note(self, method: str, call: Awaitable[R]) -> R:
        """Wait for a call, note it and return its result; raise NotServed when it came to nothing."""
        began = asyncio.get_running_loop().time()
        said: Any = None
        code: str | None = None
        try:
            said = result = await call
            code = getattr(said, "code", None)
        except (RpcError, ClientError) as error:
            code = error.code
            raise NotServed(f"{method}: {error.code}") from error
        finally:
            outcome = getattr(said, "outcome", None if said is not None else "refused")
            steps = [(one.step, one.outcome, one.code, one.seconds) for one in getattr(said, "steps", ())]
            seconds = round(asyncio.get_running_loop().time() - began, 6)
            line = Line(self.citizen, self.visit, method, seconds, outcome, code, steps)
            self._file.write(self._encoder.encode(line) + b"\n")
        if outcome not in (None, *_SERVED):
            raise NotServed(f"{method}: {outcome} {code}", retry=getattr(said, "retry", False))
        return result


def read(path: Path) -> list[Line]:
    """Return every line of a ledger."""
    return [msgspec.json.decode(line, type=Line) for line in path.read_bytes().splitlines()]
