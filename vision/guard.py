"""What the vision process takes from itself before it sees a citizen: writing, core dumps, other networks (T20)."""

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from vision.memory_lock import lock_memory

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_REFUSED = frozenset(
    (
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "os.fork",
        "os.forkpty",
        "os.exec",
        "os.system",
        "os.posix_spawn",
        "os.spawn",
        "subprocess.Popen",
        "sqlite3.connect",
        "tempfile.mkstemp",
        "tempfile.mkdtemp",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "socket.getnameinfo",
    )
)
_REACHING = frozenset(("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"))


def die_with_parent() -> None:
    """Be killed when the daemon ends, and by nothing gentler: a SIGTERM to all of a unit is the daemon's to answer.

    Leave no core dump, no memory that the user's other processes could read, and none in swap where it may be locked.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lock_memory()


def refuse_writes(report: Callable[[str], None]) -> None:
    """From now on, opening anything but /dev/null for writing, starting a process, looking a name up, or any socket but
    a Unix one raises PermissionError, after `report` got the audit event's name. For the rest of the process; the
    native libraries are held by the unit's sandbox instead.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            refused = bool(flags & _WRITING) and path != os.devnull
        elif event == "socket.__new__":
            refused = arguments[1] not in (socket.AF_UNIX, -1)
        elif event in _REACHING:
            refused = arguments[0].family != socket.AF_UNIX
        else:
            refused = event in _REFUSED
        if refused:
            report(event)
            raise PermissionError(f"{event} is refused in the vision process")

    sys.addaudithook(hook)
