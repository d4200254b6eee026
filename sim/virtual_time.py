"""An event loop whose clock jumps to the next timer when nothing is ready: days in minutes, no waiting (rule 5)."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Nothing is ready, nothing is scheduled: on a virtual clock the program would wait for ever."""


_OWN_FILES = 1
"""The loop's own pipe, through which only threads speak: without another file nobody has to be asked."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: it adds the time it was asked to wait to its clock."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0) if len(self.get_map()) > _OWN_FILES else []
        if events:
            return events
        if timeout is None:
            raise Deadlock("every task waits for something that no task and no timer will do")
        self.now += max(0.0, timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, starting at `began_at` seconds.

    Only what runs inline belongs on it: a thread would be overtaken by the clock, so asking for one raises
    RuntimeError; a socket with a real peer is read only when it happens to be ready.
    """

    def __init__(self, began_at: float = 0.0) -> None:
        self._virtual = _JumpingSelector(began_at)
        super().__init__(self._virtual)
        self._clock_resolution = 1e-6  # a jump may fall short of its timer by a rounding error

    def time(self) -> float:
        """Return virtual seconds."""
        return self._virtual.now

    def run_in_executor(self, *_: object, **__: object) -> NoReturn:
        """Raise RuntimeError: no threads on virtual time."""
        raise RuntimeError("a virtual clock does not wait for threads; give the inline form of the seam")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a new VirtualTimeLoop; raise Deadlock when it can never end."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
