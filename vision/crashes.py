"""What the vision process and the daemon say of what went wrong: kinds and places, never words or values (T20).

An error's text may quote data, and so may a value of any type but the plainest.
"""

import json
import logging
import sys
import threading
import traceback
from contextlib import suppress
from types import TracebackType

from vision.log_priority import prefixes


def places(trace: TracebackType | None) -> list[str]:
    """Name the places of a traceback, outermost first."""
    return [
        f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}:{line}"
        for frame, line in traceback.walk_tb(trace)
    ]


def tell_by_kind() -> None:
    """Write what this process, a thread or a finaliser did not catch, as one line on standard error.

    The line depends on no logger, which may be what failed, or closed already.
    """
    sys.excepthook = lambda _, error, __: _tell("uncaught", error)
    threading.excepthook = _in_thread
    sys.unraisablehook = lambda told: _tell("uncaught_in_finaliser", told.exc_value)


def _in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_type is not SystemExit:
        _tell("uncaught_in_thread", told.exc_value)


def harmless(value: object) -> object:
    """Return a number, a text or a truth value as it is; of anything else, as pixels or an error, only the type."""
    return value if value is None or isinstance(value, str | int | float) else f"<{type(value).__name__}>"


class KindHandler(logging.Handler):
    """Writes which library complained, of what kind of error; its text may quote data."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        _, error, _ = record.exc_info or (None, None, None)
        level = record.levelname.lower()
        _tell(f"library_{level}", error, level, library=record.name)


def _tell(event: str, error: BaseException | None, level: str = "error", **more: str) -> None:
    """Write a line, for a group of errors one for each of them; a standard error that nobody reads is no error."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            _tell(event, one, level, **more)
        return
    kind, trace = (None, None) if error is None else (type(error).__name__, error.__traceback__)
    line = {"level": level, "event": event, "error": kind, "places": places(trace), **more}
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{prefixes(sys.stderr).get(level, '')}{json.dumps(line)}\n")
        sys.stderr.flush()
