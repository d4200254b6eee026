"""Runs on a board: kills a process again and again and prints, as JSON, the seconds from each kill until it is back.

`stamp FILE` is the trivial process itself: it notes its id and the time it runs, then waits. `stamped FILE RUNS` kills
that process; `unit NAME RUNS` kills a unit's and counts until its READY=1. All times are CLOCK_MONOTONIC.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

REST_SECONDS = 1.3
"""A process that lives this long is a good start to supervisord (startsecs=1)."""
DEADLINE_SECONDS = 60.0


def stamp(path: Path) -> None:
    with path.open("a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")
    signal.pause()


def last_stamp(path: Path) -> tuple[int, float]:
    pid, at = path.read_text().splitlines()[-1].split()
    return int(pid), float(at)


def unit_state(name: str) -> tuple[int, float]:
    """Return the unit's process and when it last said READY=1; 0 for one that is not up."""
    keys = ("MainPID", "ActiveEnterTimestampMonotonic", "ActiveState")
    shown = subprocess.run(
        ["systemctl", "show", name, *(f"--property={key}" for key in keys)], capture_output=True, text=True, check=True
    ).stdout
    values = dict(line.split("=", 1) for line in shown.splitlines())
    is_up = values["ActiveState"] == "active"
    return int(values["MainPID"]) if is_up else 0, int(values["ActiveEnterTimestampMonotonic"]) / 1e6


def main() -> None:
    what, name = sys.argv[1:3]
    if what == "stamp":
        stamp(Path(name))
        return
    taken = []
    for _ in range(int(sys.argv[3])):
        time.sleep(REST_SECONDS)
        pid, before = last_stamp(Path(name)) if what == "stamped" else unit_state(name)
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while True:
            now, at = last_stamp(Path(name)) if what == "stamped" else unit_state(name)
            if now not in (0, pid) and at > before:
                break
            if time.monotonic() - killed > DEADLINE_SECONDS:
                raise TimeoutError(f"{name} is not back")
            time.sleep(0.002)
        taken.append(at - killed)
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
