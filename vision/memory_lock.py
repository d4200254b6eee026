"""Keeps a process's memory out of swap (T20): the daemon's as well as the vision process's."""

import ctypes
import resource
from pathlib import Path

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 1 << 14


def lock_memory() -> bool:
    """Lock every page that is touched, now and from now on; return whether that was done.

    It is done only where nothing limits it: a finite RLIMIT_MEMLOCK counts all addresses, touched or not, and a later
    allocation over it would fail.
    """
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most != resource.RLIM_INFINITY and not int(_status("CapEff"), 16) & _CAP_IPC_LOCK:
        return False
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
    return bool(ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0)


def is_locked() -> bool:
    """Return whether the process's memory is locked."""
    return int(_status("VmLck").split()[0]) > 0


def give_back() -> None:
    """Give what is free back to the kernel, which takes no locked page: it is unlocked for that moment."""
    libc = ctypes.CDLL(None)
    was_locked = is_locked()
    if was_locked:
        libc.munlockall()
    libc.malloc_trim(0)
    if was_locked:
        lock_memory()


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(name + ":"))
