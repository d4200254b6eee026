"""Whether the UI lives: it promises to call `ui.heartbeat`, and one that falls silent loses its session (rule 4)."""

import asyncio

import structlog

from runtime.session import Owner
from runtime.sessions import Sessions
from runtime.state import Component, StateBoard

log = structlog.get_logger(__name__)

BEATS = 3
"""Calls that a UI is asked for within the time it may be silent."""


class Presence:
    """The UIs that promised `ui.heartbeat` with their first call, and the board's component `ui`.

    A UI that is silent for `silence_seconds` is told as `offline` with `ui.silent`, and its session is ended; one that
    left is `offline` with `ui.gone`. Before the first promise there is no such component.
    """

    def __init__(self, board: StateBoard, sessions: Sessions, silence_seconds: float) -> None:
        self._board = board
        self._sessions = sessions
        self._silence_seconds = silence_seconds
        self._alive: dict[Owner, asyncio.TimerHandle] = {}

    def beat(self, ui: Owner) -> float:
        """Note that a UI lives; return after how many seconds it should say so again."""
        if (timer := self._alive.pop(ui, None)) is not None:
            timer.cancel()
        self._alive[ui] = asyncio.get_running_loop().call_later(self._silence_seconds, self._lost, ui, "ui.silent")
        self._board.set("ui", Component("online"))
        return self._silence_seconds / BEATS

    def left(self, ui: Owner) -> None:
        """Note that a UI's connection ended; one that promised nothing is nothing."""
        if ui in self._alive:
            self._lost(ui, "ui.gone")

    def _lost(self, ui: Owner, code: str) -> None:
        self._alive.pop(ui).cancel()
        log.warning("ui_lost", uid=ui.uid, code=code)
        if not self._alive:
            self._board.set("ui", Component("offline", code))
        self._sessions.lost(ui)
