"""The write guard: the daemon's process opens nothing for writing but what it is told (T20, rule 1).

It catches our own mistakes and those of libraries, in Python; the unit's sandbox holds what Python does not see.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger(__name__)

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TARGET = {
    "os.mkdir": 0,
    "os.rename": 1,
    "os.link": 1,
    "os.symlink": 1,
    "os.truncate": 0,
    "sqlite3.connect": 0,
}
"""Audit events that write, and which of their arguments is written."""
_READ_ONLY = re.compile(r"file:[^?]*\?mode=ro")


def install(allowed: Iterable[Path | str]) -> None:
    """Refuse, from now on and for ever, to write any file but `allowed` and /dev/null.

    A refused call raises PermissionError and logs `write_refused` with the caller, not with the file's name, which
    could be a citizen's. Links in `allowed` are followed anew each time, so a device may come back under another name.
    A path that ends in `*` allows every name that begins so in its directory.
    """
    paths = frozenset(os.path.abspath(path) for path in (*allowed, os.devnull))  # noqa: PTH100 - hot path, no Path
    beginnings = tuple(path.removesuffix("*") for path in paths if path.endswith("*"))
    sys.dont_write_bytecode = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            target, _, flags = arguments
            if not flags & _WRITING:
                return
        elif event in _TARGET:
            target = arguments[_TARGET[event]]
        else:
            return
        if isinstance(target, int) or target == ":memory:" or _is_allowed(target, paths, beginnings):
            return
        if event == "sqlite3.connect" and _READ_ONLY.fullmatch(str(target)):
            return
        log.error("write_refused", operation=event, caller=caller())
        raise PermissionError(f"the write guard allows no {event} here")

    sys.addaudithook(hook)


def _is_allowed(target: Any, paths: frozenset[str], beginnings: tuple[str, ...]) -> bool:
    path = os.path.abspath(os.fsdecode(target))  # noqa: PTH100
    if path in paths:
        return True
    if any(path.startswith(one) and os.path.dirname(path) == os.path.dirname(one) for one in beginnings):  # noqa: PTH120
        return True
    real = os.path.realpath(path)
    return any(real == os.path.realpath(one) for one in paths)


def caller() -> str:
    """Return who asked for what an audit hook sees: the nearest module and line that is no part of Python's library."""
    frame = sys._getframe(2)  # noqa: SLF001 - the only way to name the caller without a traceback's cost
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARY:
        frame = frame.f_back
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno}"


_LIBRARY = frozenset(sys.stdlib_module_names)
