"""What the vision process and the daemon say of what went wrong: kinds and places, never words or values (T20).

An error's text may quote data, and so may a value of any type but the plainest.
"""

import json
import logging
import sys
import threading
import traceback
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
    sys.excepthook = lambda kind, _, trace: _tell("uncaught", kind, trace)
    threading.excepthook = _in_thread
    sys.unraisablehook = lambda told: _tell("uncaught_in_finaliser", told.exc_type, told.exc_traceback)


def _in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_type is not SystemExit:
        _tell("uncaught_in_thread", told.exc_type, told.exc_traceback)


def harmless(value: object) -> object:
    """Return a number, a text or a truth value as it is; of anything else, as pixels or an error, only the type."""
    return value if value is None or isinstance(value, str | int | float) else f"<{type(value).__name__}>"


class KindHandler(logging.Handler):
    """Writes which library complained, of what kind of error; its text may quote data."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        kind, _, trace = record.exc_info or (None, None, None)
        _tell(f"library_{record.levelname.lower()}", kind, trace, library=record.name)


def _tell(event: str, kind: type[BaseException] | None, trace: TracebackType | None, **more: str) -> None:
    line = {"level": "error", "event": event, "error": kind.__name__ if kind else None, "places": places(trace)}
    sys.stderr.write(f"{prefixes(sys.stderr).get('error', '')}{json.dumps({**line, **more})}\n")
    sys.stderr.flush()
