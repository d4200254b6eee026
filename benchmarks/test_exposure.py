"""The unit's exposure by systemd's own measure, beside Moonraker's unit and journald's."""

import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.conftest import Figures
from runtime.units import render
from tests.systemd.needs import missing
from tests.systemd.tree import kept_tree

MOONRAKER = """[Service]
Type=simple
User=pi
SupplementaryGroups=moonraker-admin
RemainAfterExit=yes
Environment=MOONRAKER_DATA_PATH=%h/printer_data
ExecStart=/bin/true
Restart=always
RestartSec=10
"""
"""The directives that scripts/install-moonraker.sh of github.com/Arksine/moonraker writes; none of them confines it."""


def exposure(unit: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    return float(level)


def test_exposure(figures: Figures, tmp_path: Path) -> None:
    if lacks := missing():
        pytest.fail("journald's unit is the tree's, which cannot be built here: " + "; ".join(lacks), pytrace=False)
    render(tmp_path, Path("/opt/govterm"))
    moonraker = tmp_path / "moonraker.service"
    moonraker.write_text(MOONRAKER)
    with kept_tree() as tree:
        journald = exposure(tree / "usr/lib/systemd/system/systemd-journald.service")
    ours, theirs = exposure(tmp_path / "etc/systemd/system/govterm.service"), exposure(moonraker)
    figures.add("exposure of the unit", f"{ours}", beside=f"Moonraker {theirs}, journald {journald}; 0 best, 10 worst")
    assert ours < journald < theirs
