"""`govterm face`: measure and calibrate the face check on pictures of many people, never on a terminal in service."""

import datetime
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from vision.evaluation.acquire import Cache
    from vision.evaluation.calibrate import Calibration
    from vision.models import Models

ENROLLED = Path("/etc/govterm/govterm.toml")
"""A machine with this file is a terminal: pictures of people have no business there."""

_NOT_DONE = 1
_UNAVAILABLE = 69

face = typer.Typer(help="Measure and calibrate the face check on pictures of many people.", no_args_is_help=True)


class ReferenceKind(StrEnum):
    """What a reference is made into."""

    CHIP = "chip"
    FULL = "full"


ModelsOption = Annotated[
    Path | None,
    typer.Option(
        "--models",
        help="Where the models lie [default: $GOVTERM_CACHE/models, or a checkout's].",
        metavar="DIR",
    ),
]
ManifestOption = Annotated[
    Path | None, typer.Option(help="Manifest of your own models [default: this package's].", metavar="FILE")
]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Where embeddings are kept [default: $XDG_CACHE_HOME/govterm/faces].", metavar="DIR"),
]


def add_to(app: typer.Typer) -> None:
    """Add the sub-commands."""
    app.add_typer(face, name="face")


@face.command()
def evaluate(
    *,
    images: Annotated[Path, typer.Option(help="Identity, tab, path a line.", metavar="IMAGES.tsv")],
    root: Annotated[Path, typer.Option(help="Where the paths begin.", metavar="DIR")],
    genuine: Annotated[
        Path | None,
        typer.Option(help="Reference, tab, probe a line [default: all pairs within an identity].", metavar="PAIRS.tsv"),
    ] = None,
    reference: Annotated[
        ReferenceKind, typer.Option(help="References as a card's chip carries them, or in full.")
    ] = ReferenceKind.CHIP,
    frames: Annotated[int, typer.Option(help="Pictures of an identity averaged for a probe.", min=1, max=9)] = 1,
    operating_point: Annotated[str, typer.Option(help="False-match rate of the threshold.")] = "1e-5",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write a page.", metavar="FILE.html")] = None,
    models: ModelsOption = None,
    manifest: ManifestOption = None,
    cache: CacheOption = None,
) -> None:
    """Measure false matches and false non-matches at a threshold of the manifest, which is never chosen here.

    Every pair of pictures of two identities is an impostor comparison. With --frames K a probe is a picture and the
    next K-1 of its identity, in a ring, the reference not among them; identities with too few pictures are left out
    and counted. A picture that cannot be acquired is a miss in the generalised rate.
    """
    with _measuring(models, manifest, cache) as (loaded, kept, tell):
        from vision.evaluation.evaluate import Task
        from vision.evaluation.evaluate import as_json as figures
        from vision.evaluation.evaluate import evaluate as measure
        from vision.evaluation.report import render

        point = _point(operating_point)
        task = Task(images, root, genuine, reference.value, frames, point)
        done = measure(loaded, kept, task, lambda count, total: tell("", count, total))
        if report is not None:
            report.write_text(render(done, name=images.parent.name), encoding="utf-8")
        said = figures(done)
    typer.echo(json.dumps(said) if as_json else _lines(said))


@face.command()
def calibrate(
    *,
    sets: Annotated[
        list[str], typer.Option("--set", help="A group of people, its list and root.", metavar="NAME=IMAGES.tsv@DIR")
    ],
    population: Annotated[str, typer.Option(help="The group that the recogniser crowds together.", metavar="NAME")],
    genuine: Annotated[
        list[str] | None,
        typer.Option(help="Genuine pairs of a group [default: all within an identity].", metavar="NAME=PAIRS.tsv"),
    ] = None,
    frames: Annotated[str, typer.Option(help="Numbers of frames to make thresholds for.")] = "1,2,3",
    output: Annotated[Path, typer.Option(help="Where the new manifest goes.", metavar="DIR")] = Path("calibration"),
    models: ModelsOption = None,
    manifest: ManifestOption = None,
    cache: CacheOption = None,
) -> None:
    """Learn the adaptation and the thresholds of the manifest's models, and write a manifest with them.

    A threshold is the largest that any group needs for its false-match rate, on people that its adaptation was not
    learned on. The same pictures and models give the same files.
    """
    groups = _groups(sets, genuine or [])
    if population not in {name for name, *_ in groups}:
        raise typer.BadParameter(f"--population {population} is not the name of a --set")
    try:
        numbers = sorted({int(number) for number in frames.split(",")})
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= 9 for number in numbers):
        raise typer.BadParameter("--frames are numbers from 1 to 9 with commas between them")
    with _measuring(models, manifest, cache, calibrated=False) as (loaded, kept, tell):
        from vision.evaluation import calibrate as module
        from vision.manifest import MANIFEST

        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        described = [module.Group(*group) for group in groups]
        done = module.calibrate(loaded, kept, described, population, frames=numbers, date=today, progress=tell)
        written = module.write(done, manifest or MANIFEST, output)
    _print_rows(done)
    for path in written:
        typer.echo(path)


@contextmanager
def _measuring(
    directory: Path | None, manifest: Path | None, cache: Path | None, *, calibrated: bool = True
) -> Iterator[tuple["Models", "Cache", Callable[[str, int, int], None]]]:
    """Give the models, the embeddings kept, and who is told of progress; end the command on errors."""
    if _is_terminal():
        _fail(f"{ENROLLED} makes this machine a terminal: measure on another one (face.enrolled)")
    try:
        from vision.errors import VisionError
        from vision.evaluation import calibrate, evaluate, report  # noqa: F401  their libraries are an extra
        from vision.evaluation.acquire import Cache
        from vision.manifest import MANIFEST
        from vision.models import load
        from vision.store import cache_directory
    except ModuleNotFoundError as error:
        advice = "install the wheel with its extra: pip install 'govterm-VERSION.whl[evaluation]'"
        _fail(f"`face` needs the extra `evaluation`, {error.name} is missing; {advice}", _UNAVAILABLE)
    try:
        loaded = load(directory or cache_directory() / "models", manifest or MANIFEST, calibrated=calibrated)
        kept = Cache(cache or _default_cache())
        try:
            yield loaded, kept, _progress
        finally:
            kept.close()
    except VisionError as error:
        _fail(f"{error}; {error.advice} ({error.code})")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")


def _is_terminal() -> bool:
    """Whether this machine is a terminal; so is one that does not let us see."""
    try:
        ENROLLED.stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return True


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "govterm" / "faces"


def _progress(name: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{name} {done} of {total} pictures " + ("\n" if done == total else ""))
        sys.stderr.flush()


def _point(asked: str) -> str:
    """Return the operating point as the manifest writes it: 0.00001 is 1e-5."""
    try:
        rate = float(asked)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        raise typer.BadParameter(f"--operating-point {asked} is no rate such as 1e-5")
    mantissa, _, exponent = f"{rate:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _groups(sets: list[str], genuine: list[str]) -> list[tuple[str, Path, Path, Path | None]]:
    pairs = dict(one.partition("=")[::2] for one in genuine)
    groups: list[tuple[str, Path, Path, Path | None]] = []
    for one in sets:
        name, _, places = one.partition("=")
        images, _, root = places.partition("@")
        if not (name and images and root) or name in {known for known, *_ in groups}:
            raise typer.BadParameter(f"--set {one} is not NAME=IMAGES.tsv@DIR with a name of its own")
        listed = pairs.pop(name, None)
        groups.append((name, Path(images), Path(root), Path(listed) if listed else None))
    if pairs:
        raise typer.BadParameter(f"--genuine names no --set: {', '.join(pairs)}")
    return groups


def _lines(said: dict[str, Any]) -> str:
    """Return the figures as a table of text."""
    lines = [
        f"{said['model']}",
        f"operating point {said['operating_point']:g}: cosine {said['threshold']}",
        f"frames {said['frames']}, {said['reference']} reference, {said['people']} people",
    ]
    for name in ("fmr", "fmr_one_per_identity", "fnmr", "fnmr_generalised"):
        one = said[name]
        errors = one.get("matches", one.get("misses"))
        low, high = one["interval"]
        bound = f", upper95 {one['upper95']:.3g}" if "upper95" in one else ""
        people = ", over people {:.3g} to {:.3g}".format(*one["bootstrap"])
        rate = "unknown" if one["rate"] is None else f"{one['rate']:.3g}"
        lines.append(f"{name:<21} {rate} = {errors}/{one['pairs']}, 95 %: {low:.3g} to {high:.3g}{bound}{people}")
    lost, left = said["failure_to_acquire"], said["left_out"]
    reasons = ", ".join(f"{reason} {count}" for reason, count in lost["reasons"].items())
    lines += [
        f"{'failure_to_acquire':<21} {lost['failures']}/{lost['pictures']} {reasons}".rstrip(),
        f"{'left_out':<21} {left['genuine_pairs']} genuine pairs, {left['probes']} probes",
        f"{'highest impostors':<21} " + " ".join(map(str, said["worst_impostor_scores"][:10])),
        f"{'milliseconds':<21} " + ", ".join(f"{stage} {spent}" for stage, spent in said["milliseconds"].items()),
    ]
    return "\n".join(lines)


def _print_rows(done: "Calibration") -> None:
    """Print each threshold, and below it every group: its own threshold (* extrapolated) and its errors at the table's.

    The errors are of people the adaptation was not learned on.
    """
    for threshold in done.thresholds:
        typer.echo(
            f"{threshold.operating_point}, {threshold.frames} frames: cosine {threshold.cosine:.4f} by {threshold.data}"
            f"{', extrapolated' if threshold.extrapolated else ''}, upper95 {threshold.bound:.3g}"
        )
        for row in done.rows:
            if (row.operating_point, row.frames) == (threshold.operating_point, threshold.frames):
                own = "too few pairs" if row.cosine is None else f"{row.cosine:.4f}{' *' if row.extrapolated else ''}"
                matched, missed = (f"{rate.events}/{rate.trials}" for rate in (row.impostors, row.misses))
                typer.echo(
                    f"    {row.group:<16} {own:<14} fmr {matched:<14} fnmr {missed:<10} {row.measured_frames} frames"
                )


def _fail(message: str, code: int = _NOT_DONE) -> NoReturn:
    typer.echo(f"govterm: {message}", err=True)
    raise typer.Exit(code)
