"""The demo: rig, daemon and story in one command, shown as it happens."""

import asyncio
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console

from runtime.client import ClientError, RpcError
from sim import assets
from sim.control import ControlError
from sim.rig import Rig, open_rig
from sim.sabotage import Sabotage
from sim.settings import LONGEST_SOCKET_PATH, RigError, RigFiles, RigSettings, free_port, make_rig
from sim.story import Outcome, Report, Story
from vision import store
from vision.errors import VisionError
from vision.store import cache_directory

_STORY_SECONDS = 120.0


class Screen:
    """Shows the story on a console, each step as it happens."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show a spinner while the context lasts."""
        with self._console.status(what):
            yield

    def guidance(self, text: str) -> None:
        """Show what the citizen is asked to do."""
        self._console.print(f"    [cyan]{text}[/]")

    def done(self, what: str, seconds: float) -> None:
        """Show that something is done."""
        self._console.print(f"  [green]·[/] {what} [dim]{seconds:.2f} s[/]")

    def told(self, who: str, outcome: Outcome) -> None:
        """Show how a step of the story ended, and what it was made of."""
        colour = "green" if outcome.outcome == "done" else "red"
        facts = (outcome.code, outcome.name, outcome.id_number, outcome.paper, outcome.number)
        said = " ".join(fact for fact in facts if fact)
        self._console.print(f"  [{colour}]●[/] [bold]{who} {outcome.outcome}[/] {said} [dim]{outcome.seconds:.2f} s[/]")
        for step in outcome.steps:
            self._console.print(f"      [dim]{step['step']} {step['outcome']} {step['seconds']:.2f} s[/]")


async def run_demo(keep: Path | None, console: Console, *, once: bool, sabotage: Sabotage | None) -> Report:
    """Tell the story in `keep`, or in a new temporary directory, and return what happened.

    Without `once` the rig and the daemon stay up after it until SIGINT or SIGTERM. Raises RigError when the story
    could not be told to its end; the message says why.
    """
    directory = (keep or Path(tempfile.mkdtemp(prefix="govterm-demo-"))).absolute()
    screen = Screen(console)
    try:
        with screen.doing("preparing models and pictures"):
            await asyncio.to_thread(store.prepare, cache_directory() / "models")
            prepared = await asyncio.to_thread(assets.prepare, cache_directory() / "assets")
        with _short_name(directory) as sockets:
            files = RigFiles(directory, sockets)
            settings = RigSettings(broker_port=free_port(), person="nobody")
            started = time.perf_counter()
            make_rig(files, settings)
            console.print(f"[bold]govterm demo[/] in {directory}")
            async with open_rig(files, settings, prepared) as rig:
                screen.done("the rig is up: reader, printer, camera, broker, platform", time.perf_counter() - started)
                return await _tell(rig, screen, console, once=once, sabotage=sabotage)
    except (ControlError, VisionError, sqlite3.Error, OSError) as error:
        raise RigError(f"{error}; see {directory}") from error


async def _tell(rig: Rig, screen: Screen, console: Console, *, once: bool, sabotage: Sabotage | None) -> Report:
    """Tell the story while the rig lives."""
    watching = asyncio.create_task(rig.watch(), name="demo rig watch")
    telling = asyncio.create_task(_story(rig, screen, console, once=once, sabotage=sabotage), name="demo story")
    try:
        await asyncio.wait((watching, telling), return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
        return await telling
    finally:
        for task in (watching, telling):
            task.cancel()
        await asyncio.gather(watching, telling, return_exceptions=True)


async def _story(rig: Rig, screen: Screen, console: Console, *, once: bool, sabotage: Sabotage | None) -> Report:
    story = Story(rig, screen, sabotage)
    try:
        async with story.terminal() as terminal:
            async with asyncio.timeout(_STORY_SECONDS):
                await story.serve_citizen(terminal)
                await story.refuse_impostor(terminal)
                await story.wait_for_delivery()
            if not once:
                await _explore(rig, console)
    except TimeoutError:
        story.failures.append(f"the story did not end within {_STORY_SECONDS:g} s")
    except (ControlError, RpcError, ClientError, RigError) as error:
        story.failures.append(str(error))
    return await story.report()


async def _explore(rig: Rig, console: Console) -> None:
    """Leave everything running until SIGINT or SIGTERM; a second one ends the count too."""
    stop, loop, task = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    rig_settings = rig.files.settings
    console.print("\nRig and daemon stay up. In another shell:", soft_wrap=True)
    console.print(f"  govterm rig do idcard place_card --config {rig_settings}", soft_wrap=True)
    console.print(f"  govterm rig verbs --config {rig_settings}", soft_wrap=True)
    console.print(f"  govterm status --socket {rig.files.api}", soft_wrap=True)
    console.print("Ctrl-C stops everything and counts.\n")
    await stop.wait()
    if task is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)


@contextmanager
def _short_name(directory: Path) -> Iterator[Path]:
    """Give `directory` itself, or a short link to it when sockets in it would have too long a path."""
    if len(os.fsencode(directory)) + len("/platform.sock") <= LONGEST_SOCKET_PATH:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="govterm-") as short:
        link = Path(short, "rig")
        link.symlink_to(directory)
        yield link


def show(report: Report, console: Console) -> None:
    """Print what happened and where to look."""
    delivery = report.delivery
    files = RigFiles(Path(report.directory), Path(report.directory))
    counted = (
        f"{delivery.sent} sent, {delivery.received} received, {delivery.lost} lost, {delivery.duplicates} duplicates"
    )
    facts = [("delivery", counted), ("personal data found", str(report.personal_data_found))]
    facts += [("paper", piece) for piece in report.paper]
    facts += [("platform's record", str(files.platform_database)), ("audit trail", str(files.state / "audit.jsonl"))]
    facts += [("logs", f"{files.daemon_log} {files.platform_log}")]
    for what, fact in facts:
        console.print(f"  {what:<20} {fact}", soft_wrap=True, highlight=False)
    console.print("[red]the story did not go as told[/]" if report.failures else "[green]the story went as told[/]")
    for failure in report.failures:
        console.print(f"[red]✗ {failure}[/]", soft_wrap=True)


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return msgspec.json.encode(report).decode()
