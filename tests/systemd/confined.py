"""Services on a board that run a probe: in the daemon's place, or with single lines of its unit."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.systemd.board import UNITS, Board


def lines_of(board: Board) -> dict[str, list[str]]:
    """Return the lines of the installed unit's service section, drop-in included, under the directives' names."""
    found: dict[str, list[str]] = {}
    for path in ("govterm.service", "govterm.service.d/10-egress.conf"):
        _, _, section = (board.root / UNITS / path).read_text().partition("[Service]\n")
        for line in re.findall(r"^\w+=.*$", section.partition("\n[")[0], re.MULTILINE):
            found.setdefault(line.partition("=")[0], []).append(line)
    return found


def in_place_of_the_daemon(board: Board, probe: str, settings: str = "") -> Any:
    """Run a probe under a copy of the unit with its drop-in, then these settings; return what it found."""
    lines = [line for listed in lines_of(board).values() for line in listed if not line.startswith("ExecStart")]
    unit = "\n".join(lines).replace("Type=notify", "Type=oneshot").replace("Restart=always", "Restart=no")
    return run_services(board, probe, {probe: (f"{unit}\n{settings}", ())})[probe]


def run_services(board: Board, probe: str, services: Mapping[str, tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """Run a probe in services of these names, settings and arguments, all at once; return what each found."""
    shutil.copy(Path(__file__).with_name(f"{probe}.py"), board.root / "opt")
    for name, (settings, arguments) in services.items():
        command = " ".join(["/usr/bin/python3", "-I", f"/opt/{probe}.py", *(f'"{one}"' for one in arguments)])
        output = f"StandardOutput=truncate:/run/{name}.json\nStandardError=journal"
        unit = f"[Service]\nType=oneshot\nExecStart={command}\n{output}\n{settings}\n"
        board.write(f"/run/systemd/system/{name}.service", unit)
    board.run("systemctl", "daemon-reload")
    cursor = board.cursor()
    done = board.try_run("systemctl", "start", *(f"{name}.service" for name in services))
    assert done.returncode == 0, done.stderr + board.journal(cursor)
    return {name: json.loads((board.root / f"run/{name}.json").read_text()) for name in services}
