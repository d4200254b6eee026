"""T20: what the daemon and its vision process open for writing while the story is told, as the system calls show it."""

import os
import re
import select
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from sim import assets
from sim.demo import Screen
from sim.rig import open_rig
from sim.settings import BAUD, RigFiles, RigSettings, free_port, make_rig
from sim.story import Story
from tests.sim.processes import children
from vision.store import cache_directory

OPENS = "open,openat,openat2,creat"
CHANGES = "mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate,unlink,unlinkat"
WRITING = re.compile(r"\b(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE)\b|^creat\(")
TRACER_SECONDS = 30.0


@pytest.fixture
def files() -> Iterator[RigFiles]:
    with tempfile.TemporaryDirectory(prefix="rig-") as directory:
        yield RigFiles(Path(directory, "rig"), Path(directory, "rig"))


@pytest.fixture
def traced_python(tmp_path: Path) -> Path:
    """A Python whose process, children and threads are traced into `tmp_path`, one file each.

    The tracer is a grandchild, so signals and exit codes are the daemon's own. prctl is answered but not done: what a
    process that is not dumpable opens could be seen by root alone. What `pip install` compiles is not compiled here.
    """
    wrapper = tmp_path / "traced-python"
    trace = f"-o {tmp_path}/trace -e trace={OPENS},{CHANGES},execve,prctl -e inject=prctl:retval=0 -s 4096"
    wrapper.write_text(f'#!/bin/sh\nPYTHONDONTWRITEBYTECODE=1 exec strace -D -ff -qq {trace} {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def wait_for_the_tracer(tracer: int) -> None:
    with os.fdopen(tracer):
        assert select.select([tracer], [], [], TRACER_SECONDS)[0], "strace did not end with what it traced"


async def test_only_journal_audit_log_and_devices_are_opened_for_writing(
    files: RigFiles, traced_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RigSettings(broker_port=free_port(), person="nobody")
    make_rig(files, settings)
    async with open_rig(files, settings, assets.prepare(cache_directory() / "assets")) as rig:
        monkeypatch.setattr(sys, "executable", str(traced_python))
        story = Story(rig, Screen(Console(quiet=True)))
        async with story.terminal() as terminal:
            (daemon,) = [pid for pid, command in children().items() if "-m runtime" in command]
            (tracer,) = re.findall(r"^TracerPid:\t(\d+)$", Path(f"/proc/{daemon}/status").read_text(), re.MULTILINE)
            watched = os.pidfd_open(int(tracer))
            await story.serve_citizen(terminal)
            await story.refuse_impostor(terminal)
            await story.wait_for_delivery()
        wait_for_the_tracer(watched)
    assert [one.outcome for one in story.outcomes] == ["done", "done"]
    assert story.failures == []

    acts = [act for trace in tmp_path.glob("trace.*") for act in trace.read_text().splitlines()]
    done = [act for act in acts if re.search(r"= (\d|\?)", act) and "prctl(" not in act]
    opened = [act for act in done if act.startswith(("open", "creat"))]
    assert any("sface" in act for act in opened), "the vision process was traced too"

    written = {re.findall(r'"([^"]*)"', act)[0] for act in opened if WRITING.search(act)}
    journal = str(files.state / "journal.db")
    companions = {f"{journal}{suffix}" for suffix in ("-wal", "-shm", "-journal")}  # the last until it is a WAL
    companions.add(str(files.state / "journal.reserve"))
    copy = str(files.state / "journal.copying.db")  # the backup copy, until it is whole
    companions |= {copy, *(f"{copy}{suffix}" for suffix in ("-wal", "-shm", "-journal"))}
    devices = {str(files.port(kind)) for kind in BAUD}
    audit = {str(files.state / name) for name in ("audit.jsonl", "audit.reserve")}
    assert written - {"/dev/null"} == {journal, *companions, *audit, *devices}

    changes = [act for act in done if not act.startswith(("open", "creat", "execve", "+++", "---"))]
    removed = {re.findall(r'"([^"]*)"', act)[0] for act in changes if act.startswith("unlink")}
    renamed = [re.findall(r'"([^"]*)"', act) for act in changes if act.startswith("rename")]
    assert all(names == [copy, str(files.state / "journal.backup.db")] for names in renamed), renamed
    assert [act for act in changes if not act.startswith(("unlink", "rename"))] == []
    assert removed <= companions | {str(files.api), str(files.previews)}
    # pyudev finds libudev by the standard library's search, which asks ldconfig
    started = [
        act for act in done if act.startswith("execve") and not act.startswith('execve("/sbin/ldconfig", ["/sbin')
    ]
    assert len(started) == 2, started
