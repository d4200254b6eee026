"""Memory and open descriptors of the daemon and its vision process over a soak.

What a citizen needs comes and goes with the visit; what stays is the least between two citizens who were served. It is
compared within one life of a process, the one that served most: a new one has not loaded everything yet.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from sim.soak.mishaps import descriptors
from sim.soak.stage import Stage

WARM_CITIZENS = 10
"""By then nearly everything is loaded that is loaded when it is wanted."""
JUDGED_CITIZENS = 20
"""After them; fewer say nothing about growth."""
MOST_MEBIBYTES = {"daemon": 10.0, "vision": 40.0}
MOST_DESCRIPTORS = 4.0
_SHARE = 5


class Gauge(msgspec.Struct, frozen=True):
    """`first` and `last` are medians of the first and the last fifth; `most` is of all. Of `citizens` in that life."""

    first: float
    last: float
    most: float
    citizens: int


class _Sample(NamedTuple):
    mebibytes: float
    descriptors: int


class Gauges:
    """The least of each process, in each life, between two citizens."""

    def __init__(self) -> None:
        self._least: dict[str, dict[int, dict[int, _Sample]]] = defaultdict(lambda: defaultdict(dict))

    def look(self, stage: Stage, served: int) -> None:
        """Look at both, when so many citizens were served; one that is not there is left out."""
        process = stage.daemon.process
        for name, pid in (("daemon", None if process is None else process.pid), ("vision", stage.vision())):
            if pid is None:
                continue
            try:
                sample = _Sample(_resident_mebibytes(pid), descriptors(pid))
            except OSError:
                continue
            life = self._least[name][pid]
            before = life.get(served, sample)
            life[served] = _Sample(min(before.mebibytes, sample.mebibytes), min(before.descriptors, sample.descriptors))

    @property
    def memory(self) -> Mapping[str, Gauge]:
        """Resident memory in MiB, by process; without one of which no life was long enough."""
        return {name: _gauge([one.mebibytes for one in samples]) for name, samples in self._longest().items()}

    @property
    def descriptors(self) -> Mapping[str, Gauge]:
        """Open descriptors, likewise."""
        return {name: _gauge([one.descriptors for one in samples]) for name, samples in self._longest().items()}

    def grown(self) -> list[str]:
        """Say what grew."""
        failures = []
        for what, gauges, most in (
            ("MiB", self.memory, MOST_MEBIBYTES),
            ("descriptors", self.descriptors, dict.fromkeys(MOST_MEBIBYTES, MOST_DESCRIPTORS)),
        ):
            for name, gauge in gauges.items():
                if gauge.citizens >= JUDGED_CITIZENS and gauge.last - gauge.first > most[name]:
                    failures.append(f"{name}: {gauge.last - gauge.first:.1f} {what} more at the end")
        return failures

    def _longest(self) -> dict[str, list[_Sample]]:
        """Return, by process, the warm samples of the life that served most."""
        found = {name: max(lives.values(), key=len) for name, lives in self._least.items()}
        return {name: list(life.values())[WARM_CITIZENS:] for name, life in found.items() if len(life) > WARM_CITIZENS}


def _gauge(samples: list[float] | list[int]) -> Gauge:
    share = max(1, len(samples) // _SHARE)
    first, last = statistics.median(samples[:share]), statistics.median(samples[-share:])
    return Gauge(round(first, 1), round(last, 1), round(max(samples), 1), len(samples))


def _resident_mebibytes(pid: int) -> float:
    """Return the memory of a process; raise ProcessLookupError when it has ended."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    for line in status.splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1_024
    raise ProcessLookupError(pid)
