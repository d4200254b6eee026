"""The log: JSON lines on standard error through a bounded queue, so that a slow reader never holds the daemon (L41).

The last defence against personal data stands here (L40): texts that look like an identity number are masked, personal
types, bytes and the messages of exceptions are never written. Libraries are heard from WARNING up, and each of their
lines once a minute at most (L9, L26). Under systemd each line tells the journal how grave it is.
"""

import logging
import queue
import re
import sys
import threading
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

import msgspec
import structlog

from devices.personal import Kind, PersonalBytes, PersonalText, mask
from vision.crashes import places
from vision.log_priority import prefixes

OURS = ("runtime", "devices", "vision", "transport", "sim")
REPEAT_SECONDS = 60.0
"""A library's line is not written again within this time."""
QUEUE_LINES = 1_000
_LONGEST_TEXT = 1_000
_REPEATS_KEPT = 256
_STOP_SECONDS = 2.0
_IDENTITY_NUMBER = re.compile(r"\d{17}[\dXx]")
_REFUSED = "<personal data refused>"


class LineHandler(logging.Handler):
    """Queues each record as one finished JSON line; a thread writes them. What does not fit is counted and told.

    To the journal each line begins with its priority, which sd-daemon(3) defines and journald takes off again.
    """

    def __init__(self, stream: TextIO, *, lines: int = QUEUE_LINES) -> None:
        super().__init__()
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=[_foreign, structlog.stdlib.add_log_level, _time],
                processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, clean, _render],
            )
        )
        self.addFilter(_RepeatFilter())
        self.dropped = 0
        self._stream = stream
        self._prefixes = prefixes(stream)
        self._queue: queue.Queue[str | None] = queue.Queue(lines)
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line, or count it as dropped; never waits."""
        if self.dropped and not self._queue.full():
            self._queue.put_nowait(self._prefixes.get("warning", "") + _dropped_line(self.dropped))
            self.dropped = 0
        try:
            self._queue.put_nowait(self._prefixes.get(record.levelname.lower(), "") + self.format(record))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is queued, within a deadline, and end the thread; closing twice is nothing."""
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._queue.put(None, timeout=_STOP_SECONDS)
            self._thread.join(_STOP_SECONDS)
        super().close()

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            with suppress(OSError, ValueError):  # nobody reads: nothing is left to tell it to
                self._stream.write(line)
                self._stream.flush()


def install(stream: TextIO | None = None) -> LineHandler:
    """Send structlog's and the standard library's logs to `stream` (standard error); close the result at the end."""
    handler = LineHandler(stream if stream is not None else sys.stderr)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            _time,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return handler


def clean(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor: return the event with every value made safe to write."""
    error = event.pop("exc_info", None)
    event.pop("stack_info", None)
    safe = {str(key): _safe(value) for key, value in event.items()}
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    elif error is True:
        error = sys.exc_info()
    match error:
        case (type() as kind, _, TracebackType() | None as traceback):
            safe["error"] = kind.__name__
            safe["traceback"] = places(traceback)
    return safe


def _safe(value: Any) -> Any:
    safe: Any
    match value:
        case None | bool() | float():
            safe = value
        case int():
            safe = value if abs(value) < 10**17 else safe_text(str(value))
        case str():
            safe = safe_text(value)
        case PersonalText() | PersonalBytes():
            safe = _REFUSED
        case bytes() | bytearray() | memoryview():
            safe = f"<{len(value)} bytes>"
        case BaseException():
            safe = type(value).__name__
        case Mapping():
            safe = {str(_safe(key)): _safe(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            safe = [_safe(inner) for inner in value]
        case PurePath() | Enum():
            safe = safe_text(str(value))
        case _:
            safe = f"<{type(value).__name__}>"  # what it says of itself could be a citizen's
    return safe


def safe_text(text: str) -> str:
    """Mask what looks like an identity number, then shorten: a cut must not save half of one."""
    masked = _IDENTITY_NUMBER.sub(lambda found: mask(found[0], Kind.IDENTIFIER), text)
    return masked if len(masked) <= _LONGEST_TEXT else masked[: _LONGEST_TEXT - 1] + "…"


class _RepeatFilter(logging.Filter):
    """Lets a library's line pass once in REPEAT_SECONDS; told by logger and template, not by values."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written, with the count of what was held back since the last one."""
        if record.name.partition(".")[0] in OURS:
            return True
        key = (record.name, str(record.msg)[:80])
        now = time.monotonic()
        since, held = self._seen.get(key, (-REPEAT_SECONDS, 0))
        if now - since < REPEAT_SECONDS:
            self._seen[key] = (since, held + 1)
            return False
        if len(self._seen) >= _REPEATS_KEPT:
            self._seen.clear()
        self._seen[key] = (now, 0)
        record.held_back = held
        return True


def _foreign(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tell a library's line as the event `library_message`, with its text beside it.

    Of several lines the first: below it asyncio prints tasks with the text of their errors, which may quote data. Where
    an error is told, nothing from the first bracket on: asyncio prints callbacks with what they were called with. Of a
    warning the place and the category.
    """
    record: logging.LogRecord = event["_record"]
    text = event.pop("event").partition("\n")[0]
    if record.exc_info is not None:
        text = text.partition("(")[0]
    elif record.name == "py.warnings":
        text = ": ".join(text.split(": ")[:2])
    line: dict[str, Any] = {"event": "library_message", "logger": record.name, "text": text}
    if held := getattr(record, "held_back", 0):
        line["held_back"] = held
    return {**event, **line}


def _render(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    first = {key: event[key] for key in ("at", "level", "event", "logger") if key in event}
    return msgspec.json.encode({**first, **event}).decode() + "\n"


def _dropped_line(count: int) -> str:
    event: dict[str, Any] = {"event": "log_lines_dropped", "logger": __name__, "level": "warning", "count": count}
    return _render(None, "", _time(None, "", event))


_time = structlog.processors.TimeStamper(fmt="iso", utc=True, key="at")
