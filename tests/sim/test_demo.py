"""The whole story over the real parts (T1, T7, T9, T12, T20), broken on purpose, and healed by itself."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from sim import assets
from sim.delivery import count, waiting
from sim.demo import Screen, _short_name
from sim.people import make_citizen
from sim.rig import open_rig
from sim.sabotage import Sabotage
from sim.settings import RigFiles, RigSettings, free_port, load_rig, make_rig
from sim.story import Story
from sim.terminal import Terminal
from tests.sim.processes import children
from vision.store import cache_directory

pytestmark = pytest.mark.timeout(400)

AT_ONCE = 2
RUN_SECONDS = 180


@dataclass(frozen=True)
class Run:
    """One `govterm demo --once --json`."""

    code: int
    report: dict[str, Any]
    errors: str
    directory: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[Sabotage | None, Run]:
    """Run the demo as it is and once per sabotage, two at a time."""

    def run(sabotage: Sabotage | None) -> Run:
        directory = tmp_path_factory.mktemp("demo") / ("kept-under-a-long-name-" * 5)
        told = ["--sabotage", sabotage] if sabotage else []
        command = [str(Path(sys.executable).with_name("govterm")), "demo", "--once", "--json", "--keep", str(directory)]
        done = subprocess.run([*command, *told], capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        assert done.stdout, done.stderr
        return Run(done.returncode, json.loads(done.stdout), done.stderr, directory)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [None, *Sabotage]
        return dict(zip(asked, pool.map(run, asked), strict=True))


def test_the_story_goes_as_told(runs: dict[Sabotage | None, Run]) -> None:
    run = runs[None]
    report = run.report
    assert (report["failures"], run.errors, run.code) == ([], "", 0)
    assert [(step["step"], step["outcome"]) for step in report["story"]] == [
        ("identity", "done"),
        ("certificate", "done"),
    ]
    assert all(step["seconds"] > 0 for step in report["story"])
    assert (report["impostor"]["outcome"], report["impostor"]["code"]) == ("refused", "face.no_match")
    assert report["personal_data_found"] == 0
    sent = report["delivery"]["sent"]
    assert sent >= 8
    assert report["delivery"] == {"sent": sent, "received": sent, "lost": 0, "duplicates": 0, "altered": 0}
    assert report["story"][0]["face"]["presentation_attack"] == "bona_fide"


def test_names_are_masked_on_the_api(runs: dict[Sabotage | None, Run]) -> None:
    identity = runs[None].report["story"][0]
    assert identity["name"].endswith("**")
    assert identity["id_number"][3:-2] == "*" * 13


def test_the_paper_is_a_picture_with_something_on_it(runs: dict[Sabotage | None, Run]) -> None:
    (piece,) = runs[None].report["paper"]
    with Image.open(piece) as picture:
        assert picture.width == 576
        assert picture.height > 800
        assert 0.02 < picture.convert("L").histogram()[0] / (picture.width * picture.height) < 0.5


def counted(run: Run) -> tuple[int, int, int, int, int]:
    """Count what a demo kept without any of its own means: records sent, lost and doubled, names found, papers."""
    with closing(sqlite3.connect(run.directory / "state" / "journal.db")) as journal:
        sent = journal.execute("SELECT stream, sequence, body FROM records").fetchall()
    with closing(sqlite3.connect(run.directory / "platform.db")) as platform:
        stored = platform.execute("SELECT stream, sequence, body FROM records").fetchall()
    name = make_citizen(0, load_rig(run.directory / "rig.toml")[1].seed).name
    searched = [path for path in (run.directory / "state").iterdir() if path.is_file()] + [run.directory / "daemon.log"]
    found = [path for path in searched for code in ("utf-8", "gb18030") if name.encode(code) in path.read_bytes()]
    papers = len(list((run.directory / "paper").iterdir()))
    return len(sent), len(set(sent) - set(stored)), len(stored) - len(set(stored)), len(found), papers


def test_what_is_kept_can_be_counted_by_somebody_else(runs: dict[Sabotage | None, Run]) -> None:
    run = runs[None]
    kept = {path.name for path in run.directory.iterdir()}
    assert {"state", "daemon.log", "platform.db", "platform.log", "paper"} <= kept
    assert not {"rig.sock", "govterm.sock", "idcard", "printer"} & kept
    assert counted(run) == (run.report["delivery"]["sent"], 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("sabotage", "count"),
    [
        (Sabotage.PLANT_NAME, (0, 0, 1, 1)),
        (Sabotage.DROP_RECORD, (1, 0, 0, 1)),
        (Sabotage.DOUBLE_RECORD, (0, 1, 0, 1)),
        (Sabotage.BROKEN_SEAL, (0, 0, 0, 0)),
        (Sabotage.SAME_FACE, (0, 0, 0, 1)),
    ],
)
def test_a_sabotage_breaks_what_it_says_and_nothing_else(
    runs: dict[Sabotage | None, Run], sabotage: Sabotage, count: tuple[int, ...]
) -> None:
    assert counted(runs[sabotage])[1:] == count


@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (Sabotage.PLANT_NAME, [r"personal data \(name, gb18030\) found in .*/state/planted at 0"]),
        (Sabotage.DROP_RECORD, [r"delivery: 1 lost of \d+ records"]),
        (Sabotage.DOUBLE_RECORD, [r"delivery: 1 duplicates of \d+ records"]),
        (Sabotage.BROKEN_SEAL, [r"certificate: refused \(certificate\.seal_invalid\)", r"paper: 0 pieces, not 1"]),
        (Sabotage.SAME_FACE, [r"impostor: done \(None\), not refused \(face\.no_match\)"]),
    ],
)
def test_each_sabotage_is_found(runs: dict[Sabotage | None, Run], sabotage: Sabotage, said: list[str]) -> None:
    """For its own reason and for no other."""
    run = runs[sabotage]
    assert run.code == 1
    failures = run.report["failures"]
    assert len(failures) == len(said), failures
    assert all(re.fullmatch(pattern, failure) for pattern, failure in zip(said, failures, strict=True)), failures
    assert run.errors.splitlines() == [f"govterm: {failure}" for failure in failures]


def test_nothing_keeps_running(runs: dict[Sabotage | None, Run]) -> None:
    kept = {str(run.directory) for run in runs.values()}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            assert not any(directory in command for directory in kept), command


async def verify(terminal: Terminal) -> dict[str, Any]:
    session = (await terminal.call("session.open"))["session"]
    await terminal.call("session.consent", session=session, agreed=True, version="1")
    try:
        return await terminal.call("session.verify_identity", session=session)
    finally:
        await terminal.call("session.close", session=session)


async def test_it_recovers_from_each_loss_while_the_daemon_stays_up(tmp_path: Path) -> None:
    """A killed vision process, an unplugged reader and a stopped broker: none ends the daemon, no record is lost."""
    with _short_name(tmp_path / "rig") as sockets:
        files = RigFiles(tmp_path / "rig", sockets)
        settings = RigSettings(broker_port=free_port(), person="nobody")
        make_rig(files, settings)
        async with (
            open_rig(files, settings, assets.prepare(cache_directory() / "assets")) as rig,
            (story := Story(rig, Screen(Console(quiet=True)))).terminal() as terminal,
        ):
            (daemon,) = [pid for pid, command in children().items() if "-m runtime" in command]

            (vision,) = [pid for pid, command in children(daemon).items() if "vision" in command]
            await rig.do("idcard", "place_card")
            waiting_for_a_face = asyncio.create_task(verify(terminal))
            await terminal.wait_until("session", "open")
            os.kill(vision, signal.SIGKILL)
            refused = await waiting_for_a_face
            assert refused["outcome"] == "refused"
            assert refused["retry"] is True
            await terminal.wait_until("vision", "online")
            assert vision not in children(daemon)

            await rig.do("camera", "show", person="grace_hopper")
            await rig.do("idcard", "unplug")
            await terminal.wait_until("idcard", "offline", "noDevice")
            assert (await verify(terminal))["code"] == "idcard.offline"
            await rig.do("idcard", "plug")
            await terminal.wait_until("idcard", "online")

            await rig.do("broker", "stop")
            await terminal.wait_until("platform", "offline")
            await rig.do("idcard", "place_card")
            assert (await verify(terminal))["code"] == "line.down"
            assert waiting(files.state / "journal.db") > 0
            await rig.do("broker", "start")
            await terminal.wait_until("platform", "online")
            await rig.do("idcard", "place_card")
            assert (await verify(terminal))["outcome"] == "done"
            await story.wait_for_delivery()
            assert waiting(files.state / "journal.db") == 0
            assert daemon in children()
        delivery = count(files.state / "journal.db", files.platform_database, settings.terminal_id)
    assert (delivery.sent, delivery.lost, delivery.duplicates) == (delivery.received, 0, 0)
    assert delivery.sent >= 5
