"""A scenario: verbs of the rig on a timeline, in TOML, told on the loop's clock.

[[at]]
seconds = 5
device = "printer"
verb = "paper_out"
args = {after_millimetres = 20}
"""

import asyncio
import inspect
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sim.control import Command, ControlError, perform
from sim.wire import Verbs

_STEP = re.compile(r"^\s*\[\[\s*at\s*\]\]", re.MULTILINE)


class ScenarioError(Exception):
    """A scenario cannot be read or told; the message begins with the file and the line."""


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seconds: Annotated[float, Meta(ge=0, le=604_800)]
    device: str
    verb: str
    args: dict[str, Any] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: list[Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What happens at `seconds` from the start; `where` is the file and the line it stands in."""

    seconds: float
    command: Command
    where: str


def load_scenario(path: Path) -> list[Step]:
    """Return the steps of a scenario in the order of time; raise ScenarioError with the line of what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScenarioError(f"{path}: not UTF-8") from None
    try:
        entries = msgspec.convert(tomllib.loads(text), _File).at
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: {error}") from None
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{path}: {error}; a scenario is a list of [[at]]") from None
    lines = [text.count("\n", 0, found.end()) + 1 for found in _STEP.finditer(text)]
    if len(lines) != len(entries):
        raise ScenarioError(f"{path}: begin each step with [[at]] on a line of its own")
    steps = [_step(entry, f"{path}:{line}") for entry, line in zip(entries, lines, strict=True)]
    return sorted(steps, key=lambda step: step.seconds)


def check_scenario(steps: Sequence[Step], devices: Mapping[str, Verbs]) -> None:
    """Raise ScenarioError when a step names a device, a verb or an argument that there is not."""
    for step in steps:
        device, verb = step.command.device, step.command.verb
        if device not in devices:
            raise ScenarioError(f"{step.where}: no device {device}; there are {', '.join(devices)}")
        if verb not in devices[device]:
            raise ScenarioError(f"{step.where}: {device} has no verb {verb}; there are {', '.join(devices[device])}")
        try:
            inspect.signature(devices[device][verb]).bind(**step.command.args)
        except TypeError as error:
            raise ScenarioError(f"{step.where}: {device} {verb}: {error}") from None


async def play(steps: Sequence[Step], devices: Mapping[str, Verbs]) -> None:
    """Do each step at its time, from now; raise ScenarioError at the first one that cannot be done."""
    check_scenario(steps, devices)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for step in steps:
        await asyncio.sleep(start + step.seconds - loop.time())
        try:
            await perform(devices, step.command)
        except ControlError as error:
            raise ScenarioError(f"{step.where}: {error}") from None


def _step(entry: Any, where: str) -> Step:
    try:
        step = msgspec.convert(entry, _Step)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{where}: {error}") from None
    return Step(step.seconds, Command(step.device, step.verb, step.args), where)
