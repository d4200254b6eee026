"""`python -m sim.privacy`: prove on this machine that nothing of a citizen outlives the session (T20, T22).

As root, on a machine that lets root mount an overlay. Exit code 0 when nothing was found, 1 when something was or did
not go as told, 69 when this machine does not let it.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec
import structlog
import typer

from runtime.client import ClientError, RpcError
from sim.control import ControlError
from sim.privacy.broker import MOSQUITTO
from sim.privacy.overlay import OverlayError, enter, write_aside
from sim.privacy.report import Report
from sim.privacy.run import Sabotage, prove
from sim.privacy.visit import VisitError
from sim.settings import RigError
from vision.errors import VisionError

_NOT_DONE, _UNAVAILABLE = 1, 69
_LOG_LEVEL_WARNING = 30


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sim.privacy", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new directory for every file that was written")
    parser.add_argument("--sabotage", type=Sabotage, metavar="NAME", help=f"one of {', '.join(Sabotage)}: must fail")
    wanted = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(_LOG_LEVEL_WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if not MOSQUITTO.exists():
        typer.echo("govterm: mosquitto is not installed: apt-get install mosquitto", err=True)
        return _UNAVAILABLE
    try:
        enter()
        kept = None if wanted.keep is None else _opened(wanted.keep)
        places = write_aside()
        with tempfile.TemporaryDirectory(prefix="govterm-privacy-") as short:
            report = asyncio.run(prove(Path(short, "rig"), places, wanted.sabotage, _say))
            if kept is not None:
                _keep(places(), kept)
    except FileExistsError as error:
        typer.echo(f"govterm: {error.filename}: it is there already; name a new directory", err=True)
        return _NOT_DONE
    except OverlayError as error:
        typer.echo(f"govterm: {error}", err=True)
        return _UNAVAILABLE
    except (RigError, VisitError, VisionError, ControlError, ClientError, RpcError, TimeoutError) as error:
        typer.echo(f"govterm: {str(error) or 'nothing answers'}", err=True)
        return _NOT_DONE
    typer.echo(msgspec.json.encode(report).decode() if wanted.json else _told(report))
    return _NOT_DONE if report.failures else 0


def _opened(directory: Path) -> Path:
    """Make a directory and return a name of it that holds wherever this process's root goes."""
    directory.mkdir(parents=True)
    return Path(f"/proc/self/fd/{os.open(directory, os.O_RDONLY)}")


def _keep(places: list[Path], directory: Path) -> None:
    for place in places:
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                copy = directory / path.relative_to(place.parent)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)


def _say(what: str) -> None:
    typer.echo(what, err=True)


def _told(report: Report) -> str:
    lines = [f"needles            {report.needles}"]
    for moment, places in (("open", report.memory.open), ("closed", report.memory.closed)):
        for name, place in places.items():
            lines.append(f"{name}, {moment:<10} {place.mebibytes} MiB searched, found: {place.hits or 'nothing'}")
    lines.append(f"read               {report.memory.read_seconds} s after the session's end")
    lines.append(f"locked             {report.memory.locked}")
    for name, crash in report.crashes.items():
        lines.append(f"{name} crashed  by signal {crash.signal}, says {crash.told_by}; it held {crash.held}")
    lines.append(f"exits              {', '.join(f'{name} {size} bytes' for name, size in report.exits.items())}")
    lines.append(
        f"captures           {', '.join(f'{kind} {one.bytes} bytes' for kind, one in report.captures.items())}"
    )
    files = report.files
    lines.append(f"files              {files.searched} of {files.mebibytes} MiB searched, found: {len(files.found)}")
    lines.append(f"broker's store     {files.store.bytes} bytes, {files.store.messages} messages of the terminal")
    lines.append(f"planted            {files.controls_found} of {files.controls} files found")
    return "\n".join([*lines, *([f"✗ {failure}" for failure in report.failures] or ["as promised"])])


if __name__ == "__main__":
    sys.exit(main())
