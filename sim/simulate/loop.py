"""A virtual-time loop on which a process can die: of what belongs to it nothing runs any more, not even a `finally`."""

import asyncio
from asyncio.events import Handle, TimerHandle
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from itertools import count
from typing import Any

from sim.virtual_time import VirtualTimeLoop


class Process:
    """What can die. Everything that runs in a context with it, and all that this starts, is part of it."""

    def __init__(self) -> None:
        self.dead = False
        self.tasks: dict[int, asyncio.Task[Any]] = {}
        """Those that live, by their ordinal; after its death those that lived then, so that nothing cleans them up."""


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class _OrderedTask(asyncio.Task[Any]):
    """A task that sorts into sets by its ordinal, so that a set of tasks has the same order in every run."""

    def __init__(self, work: Any, *, ordinal: int, **options: Any) -> None:
        self.ordinal = ordinal
        super().__init__(work, **options)

    def __hash__(self) -> int:
        return self.ordinal


class MortalLoop(VirtualTimeLoop):
    """A VirtualTimeLoop that forgets what belongs to a dead process."""

    def __init__(self) -> None:
        super().__init__()
        self._ordinals = count(1)
        self._has_dead = False
        self.set_task_factory(self._make_task)

    def bury(self, process: Process) -> None:
        """Let nothing of a process run any more, from now on."""
        process.dead = self._has_dead = True
        for handle in [*self._ready, *self._scheduled]:  # type: ignore[attr-defined]
            if handle._context.get(PROCESS) is process:  # noqa: SLF001 - whose it is stands nowhere else
                handle.cancel()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """As the loop's own, unless what calls is dead."""
        handle = super().call_soon(callback, *args, context=context)
        return _forgotten(handle) if self._has_dead else handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """As the loop's own, unless what calls is dead."""
        handle = super().call_at(when, callback, *args, context=context)
        return _forgotten(handle) if self._has_dead else handle

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        ordinal, process = next(self._ordinals), PROCESS.get()
        task = _OrderedTask(work, ordinal=ordinal, loop=loop, **options)
        if process is not None:
            process.tasks[ordinal] = task
            task.add_done_callback(lambda _: process.tasks.pop(ordinal, None))
        return task


def _forgotten(handle: Any) -> Any:
    process = handle._context.get(PROCESS)  # noqa: SLF001 - as above
    if process is not None and process.dead:
        handle.cancel()
    return handle
