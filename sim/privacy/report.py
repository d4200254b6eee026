"""What a run found, and when that is not as promised."""

import signal

import msgspec

from sim.privacy.memory import Hit

MUST_BE_THERE = {
    "daemon": {
        "name",
        "ID number",
        "address",
        "telephone",
        "permit number",
        "form's address",
        "document",
        "card number",
    },
    "vision": {"template", "document", "document frame"},
}
"""What an open session holds by and by: a search that does not find these finds nothing else either."""
MUST_SAY = ("api", "audit", "audit-export", "check", "status", "systemd")
MUST_RECORD = ("idcard", "cardreader")
MUST_BE_LOST = {"daemon": {"name", "ID number", "address", "form's address"}, "vision": {"document frame"}}
"""What each process holds in the moment in which it is made to crash."""


class Place(msgspec.Struct, frozen=True):
    """A search of one process: what was read, and how often each kind of value was found."""

    mebibytes: float
    runs: int
    hits: dict[str, int]


class Memory(msgspec.Struct, frozen=True):
    """Both processes while the session is open and after its end; all was read `read_seconds` after the end's answer.

    The open session's is read as well while a face is compared and while a bank card waits for its PIN. `where` says
    where something was found after the end; `locked` whether a process's memory is kept out of swap.
    """

    open: dict[str, Place]
    closed: dict[str, Place]
    where: list[Hit]
    read_seconds: float
    locked: dict[str, bool]


class Crash(msgspec.Struct, frozen=True):
    """The signal that ended a process, as `told_by` says it, and what of the citizen it held right before."""

    signal: int
    told_by: str
    held: dict[str, int]


class Capture(msgspec.Struct, frozen=True):
    """A recording of a device that reads the citizen's card: its size, and whether the card was read meanwhile."""

    bytes: int
    card_was_read: bool


class Store(msgspec.Struct, frozen=True):
    """What the broker keeps on its disk: bytes, messages of the terminal in it, and whether the control was found."""

    bytes: int
    messages: int
    control_found: bool


class Files(msgspec.Struct, frozen=True):
    """The search of every file that was written: how many, how large, what was found, and of the planted ones."""

    searched: int
    mebibytes: float
    found: list[str]
    controls: int
    controls_found: int
    store: Store


class Report(msgspec.Struct, frozen=True):
    """The whole run; nothing was found when `failures` is empty.

    `exits` are the bytes that each exit beside paper and line said; `capture_refused` whether a port that the daemon
    holds could not be recorded.
    """

    needles: int
    memory: Memory
    crashes: dict[str, Crash]
    exits: dict[str, int]
    capture_refused: bool
    captures: dict[str, Capture]
    files: Files
    failures: list[str]


def judge(report: Report) -> list[str]:
    """Return what is not as promised, or was not shown."""
    return [*_memory(report.memory), *_crashes(report.crashes), *_exits(report), *_files(report.files)]


def _memory(searched: Memory) -> list[str]:
    failures = []
    for name, kinds in MUST_BE_THERE.items():
        if missing := kinds - searched.open[name].hits.keys():
            failures.append(f"{name}: the search of the open session does not find {', '.join(sorted(missing))}")
        for what, number in searched.closed[name].hits.items():
            failures.append(f"{name}: {what} is in memory {number} times after the session")
    return failures


def _crashes(crashes: dict[str, Crash]) -> list[str]:
    failures = []
    for name, kinds in MUST_BE_LOST.items():
        if crashes[name].signal != signal.SIGSEGV:
            failures.append(f"{name} ended by {crashes[name].signal}, not by SIGSEGV, says {crashes[name].told_by}")
        if missing := kinds - crashes[name].held.keys():
            failures.append(f"{name}: it did not hold {', '.join(sorted(missing))} when it crashed")
    return failures


def _exits(report: Report) -> list[str]:
    failures = [f"{name} said nothing that could be searched" for name in MUST_SAY if not report.exits.get(name)]
    if not report.capture_refused:
        failures.append("a port that the daemon holds was recorded")
    for kind in MUST_RECORD:
        capture = report.captures.get(kind)
        if capture is None or not (capture.bytes and capture.card_was_read):
            failures.append(f"{kind}: no card was recorded")
    return failures


def _files(files: Files) -> list[str]:
    failures = [f"written: {one}" for one in files.found]
    if files.controls_found != files.controls:
        failures.append(f"only {files.controls_found} of {files.controls} planted files are found")
    if not files.store.messages:
        failures.append(f"the broker's store of {files.store.bytes} bytes holds nothing that the terminal said")
    if not files.store.control_found:
        failures.append("the planted message is not found in the broker's store")
    return failures
