"""What runs below a process."""

import os
from pathlib import Path


def children(parent: int | None = None) -> dict[int, str]:
    """Return the living children of a process by pid, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if entry.name.isdigit() and int(ppid) == (parent or os.getpid()) and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found
