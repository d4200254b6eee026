"""Every example of the README and of docs/examples, as it stands there, against a real rig and daemon (H12)."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sim.settings import RigFiles
from sim.terminal import COMPONENTS, connected
from vision.store import cache_directory

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DEADLINE_SECONDS = 60.0

Shell = Callable[[str], "subprocess.CompletedProcess[str]"]


def fences(kind: str, after: str) -> list[str]:
    """Return the README's code blocks of a kind, below the heading `after`."""
    section = README.split(f"\n## {after}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{kind}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def rig_lines() -> list[str]:
    (block,) = fences("sh", "Use the rig")
    first, *lines = block.splitlines()
    assert first == "make setup"
    return lines


async def everything_online(files: RigFiles) -> None:
    async with connected(files) as terminal:
        for component in COMPONENTS:
            await terminal.wait_until(component, "online")


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """Follow "Use the rig" up to its third shell, in a directory that looks like a checkout; then run lines there."""
    environment = os.environ | {"GOVTERM_CACHE": str(cache_directory()), "COLUMNS": "200"}
    with tempfile.TemporaryDirectory(prefix="rig-") as name, ExitStack() as stack:
        directory = Path(name)
        (directory / "docs").symlink_to(ROOT / "docs")
        (directory / ".venv").symlink_to(sys.prefix)
        files = RigFiles(directory / "my-rig", directory / "my-rig")

        def run(line: str) -> "subprocess.CompletedProcess[str]":
            path = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
            return subprocess.run(
                ["bash", "-c", line.replace("/run/govterm/", "my-rig/")],
                cwd=directory,
                env=environment | {"PATH": path},
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS,
                check=False,
            )

        def stay(line: str) -> "subprocess.Popen[str]":
            log = stack.enter_context((directory / "log").open("ab"))
            process = stack.enter_context(
                subprocess.Popen(
                    shlex.split(line, comments=True),
                    cwd=directory,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            )
            stack.callback(process.send_signal, signal.SIGTERM)
            return process

        init, rig, daemon = rig_lines()[:3]
        assert run(init).returncode == 0
        rig_process = stay(rig)
        assert rig_process.stdout is not None
        assert rig_process.stdout.readline().startswith("rig"), (directory / "log").read_text()
        stay(daemon)
        for _ in range(100):
            if run("govterm status --socket my-rig/govterm.sock").returncode == 0:
                break
        asyncio.run(everything_online(files))
        yield run


@pytest.fixture
def card(shell: Shell) -> None:
    """Lay the citizen's card down, as the README says."""
    (line,) = [line for line in rig_lines() if "place_card" in line]
    done = shell(line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "null\n", "")


def test_the_rig_section_is_followed_to_its_end(shell: Shell) -> None:
    papers = "ls my-rig/paper | wc -l"
    before = int(shell(papers).stdout)
    for line in rig_lines()[3:]:
        done = shell(line)
        assert (done.returncode, done.stderr) == (0, ""), line
    assert done.stdout.count("'outcome': 'done'") >= 2
    assert "'paper': 'printed'" in done.stdout
    assert int(shell(papers).stdout) == before + 1


def test_the_socat_line(shell: Shell) -> None:
    (line,) = [block for block in fences("sh", "Call the API") if "socat" in block]
    done = shell(line)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"rig":true' in done.stdout


@pytest.mark.usefixtures("card")
def test_the_python_block(shell: Shell) -> None:
    (program,) = fences("python", "Call the API")
    done = shell(f"python -c {shlex.quote(program)} my-rig/govterm.sock")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"done .\*+\n", done.stdout)


@pytest.mark.usefixtures("card")
def test_the_node_program_serves_a_whole_citizen(shell: Shell) -> None:
    """Identity, certificate, applications with materials and a fee, hotline, progress (T7, T8, T9, T10, T11, H1)."""
    (line,) = [block for block in fences("sh", "Call the API") if "node" in block]
    (pay,) = re.findall(r"`(govterm rig do platform pay_code)`", README)
    telephone = f'case "$said" in *"QR code"*) {pay} --config my-rig/rig.toml >/dev/null;; esac'
    done = shell(
        f'{line.strip()} | while IFS= read -r said; do echo "$said"; {telephone}; done; exit ${{PIPESTATUS[0]}}'
    )
    assert done.stderr == ""
    assert done.returncode == 0
    for said in (
        "paper: 'printed'",
        "application.material {",
        "qr: 'https://qr.platform.example/unionpay/",
        "state: 'paid'",
        "payment.receipt {",
        "state: 'accepted'",
        "hotline.standing {",
        "progress.mine {",
    ):
        assert said in done.stdout
    assert done.stdout.count("state: 'accepted'") >= 2
    assert done.stdout.count("outcome: 'done'") >= 22


def test_the_shell_block(shell: Shell) -> None:
    (block,) = [block for block in fences("sh", "Call the API") if block.startswith("govterm status")]
    for line in block.splitlines():
        done = shell(f"{line} --socket my-rig/govterm.sock")
        assert (done.returncode, done.stderr) == (0, "")
        assert "online" in done.stdout


def test_every_example_is_one_that_is_run_here() -> None:
    elsewhere = {"crt591", "wire"}  # tests/devices/test_crt591_example.py and tests/sim/test_wire_reader.py run them
    assert {path.name for path in (ROOT / "docs/examples").iterdir()} == {"client.py", "client.js"} | elsewhere
    assert len(fences("sh", "Call the API")) == 3


def test_check_refuses_what_the_rig_wrote_for_its_daemon(shell: Shell) -> None:
    done = shell("govterm check my-rig/govterm.toml")
    assert done.returncode == 1
    assert "rig: expected false" in done.stdout
