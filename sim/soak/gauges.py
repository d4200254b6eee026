"""Memory and open descriptors of the daemon and its vision process over a soak."""

import statistics
from collections import defaultdict
from pathlib import Path

import msgspec

from sim.soak.mishaps import descriptors
from sim.soak.stage import Stage

WARM_CITIZENS = 10
"""By then nearly everything is loaded that is loaded when it is wanted."""
JUDGED_SAMPLES = 40
"""Fewer say nothing about growth."""
MOST_MEBIBYTES = {"daemon": 10.0, "vision": 40.0}
MOST_DESCRIPTORS = 4.0
_SHARE = 5


class Gauge(msgspec.Struct, frozen=True):
    """`first` and `last` are medians of the first and the last fifth of the samples; `most` is of all of them."""

    first: float
    last: float
    most: float


class Gauges:
    """Samples of both processes, one after each citizen who was served."""

    def __init__(self) -> None:
        self._mebibytes: dict[str, list[float]] = defaultdict(list)
        self._descriptors: dict[str, list[float]] = defaultdict(list)
        self._served: dict[str, tuple[int, int]] = {}

    def look(self, stage: Stage) -> None:
        """Look at both; one that is not there, or served too few citizens in this life of its, is left out."""
        process = stage.daemon.process
        for name, pid in (("daemon", None if process is None else process.pid), ("vision", stage.vision())):
            if pid is None:
                continue
            known, served = self._served.get(name, (pid, 0))
            served = served + 1 if known == pid else 1
            self._served[name] = pid, served
            try:
                mebibytes, opened = _resident_mebibytes(pid), descriptors(pid)
            except OSError:
                continue
            if served >= WARM_CITIZENS:
                self._mebibytes[name].append(mebibytes)
                self._descriptors[name].append(opened)

    @property
    def memory(self) -> dict[str, Gauge]:
        """Resident memory in MiB, by process."""
        return {name: _gauge(samples) for name, samples in self._mebibytes.items()}

    @property
    def descriptors(self) -> dict[str, Gauge]:
        """Open descriptors, by process."""
        return {name: _gauge(samples) for name, samples in self._descriptors.items()}

    def grown(self) -> list[str]:
        """Say what grew."""
        failures = []
        for what, gauges, most in (
            ("MiB", self.memory, MOST_MEBIBYTES),
            ("descriptors", self.descriptors, dict.fromkeys(MOST_MEBIBYTES, MOST_DESCRIPTORS)),
        ):
            for name, gauge in gauges.items():
                if len(self._mebibytes[name]) >= JUDGED_SAMPLES and gauge.last - gauge.first > most[name]:
                    failures.append(f"{name}: {gauge.last - gauge.first:.1f} {what} more at the end")
        return failures


def _gauge(samples: list[float]) -> Gauge:
    share = max(1, len(samples) // _SHARE)
    values = statistics.median(samples[:share]), statistics.median(samples[-share:]), max(samples)
    return Gauge(*(round(value, 1) for value in values))


def _resident_mebibytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    kibibytes = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return kibibytes / 1_024
