"""Reads all writable memory of a running process through /proc/PID/mem, as root may, and searches it (T20).

Whatever may ever have been written is read: every mapping that is writable, or private and of no file, page by page
where the page is there at all, so that memory the process only reserved costs nothing.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from sim.privacy.finder import Finder

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CHUNK_BYTES = 4 * 2**20
_THERE = np.uint64(3 << 62)
"""In memory or swapped out (Documentation/admin-guide/mm/pagemap.rst)."""
_NOT_ITS_OWN = {"[vvar]", "[vvar_vclock]", "[vsyscall]"}
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ (\d+) *(.*)")


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping of a process: its addresses and what it is called in /proc/PID/maps."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Run:
    """Pages without a hole between them, as they were at one moment: a value lies in one run, never across two."""

    mapping: Mapping
    address: int
    data: bytes


class Hit(msgspec.Struct, frozen=True):
    """Where personal data was found in memory: what, in which form, in which mapping, at which address."""

    what: str
    form: str
    mapping: str
    address: str


def mappings(pid: int) -> list[Mapping]:
    """Return the mappings that the process may have written; raise OSError when there is no such process."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        if (matched := _LINE.fullmatch(line)) is None:
            continue
        start, end, mode, inode, name = matched.groups()
        is_writable = mode[1] == "w" or (inode == "0" and mode[3] == "p")
        if is_writable and name not in _NOT_ITS_OWN:
            found.append(Mapping(int(start, 16), int(end, 16), name or "anonymous"))
    return found


def read(pid: int) -> list[Run]:
    """Return all that the process may have written; raise OSError when it may not be read."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory, Path(f"/proc/{pid}/pagemap").open("rb") as pages:
        return [
            Run(mapping, start, _pages(memory.fileno(), start, end))
            for mapping in mappings(pid)
            for start, end in _there(pages.fileno(), mapping)
        ]


def search(runs: list[Run], finder: Finder) -> list[Hit]:
    """Return where in memory that was read `finder` finds something."""
    return [
        Hit(what, form, run.mapping.name, hex(run.address + place))
        for run in runs
        for place, what, form in finder.find(run.data)
    ]


def _there(pages: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    count = (mapping.end - mapping.start) // _PAGE
    entries = np.frombuffer(os.pread(pages, 8 * count, mapping.start // _PAGE * 8), np.uint64)
    edges = np.flatnonzero(np.diff((entries & _THERE) != 0, prepend=False, append=False))
    for first, last in edges.reshape(-1, 2):
        yield mapping.start + int(first) * _PAGE, mapping.start + int(last) * _PAGE


def _pages(memory: int, start: int, end: int) -> bytes:
    data = bytearray()
    with suppress(OSError):  # the process gave the rest back meanwhile
        while len(data) < end - start:
            data += os.pread(memory, min(_CHUNK_BYTES, end - start - len(data)), start + len(data))
    return bytes(data)
