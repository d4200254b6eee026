"""Learn the adaptation and the threshold table from sets of pictures, and write them as a manifest (T9)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from vision.adaptation import Adaptation
from vision.errors import VisionError
from vision.evaluation.acquire import Cache, acquire
from vision.evaluation.comparisons import (
    Booleans,
    Described,
    Pairs,
    Templates,
    compare_genuine,
    compare_impostors,
    pairs_within,
    templates_of,
)
from vision.evaluation.fit import Material, fit, folds_of, held_out
from vision.evaluation.images import Listed, read_images, read_pairs
from vision.evaluation.statistics import Rate
from vision.evaluation.tail import FEWEST_PAIRS, MANY_PAIRS, Cut, cut_at
from vision.manifest import Threshold, digest, read_manifest
from vision.models import Floats, Models
from vision.store import write_whole

OPERATING_POINTS = ("1e-4", "1e-5", "1e-6")
ADAPTATION_FILE = "adaptation.npz"

_MARK = "# Written by `govterm face calibrate` from here on."


@dataclass(frozen=True, slots=True)
class Group:
    """A set of pictures of one population; `genuine` is a list of pairs, None for every pair within an identity."""

    name: str
    images: Path
    root: Path
    genuine: Path | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What one group says of one threshold; `cosine` is the group's own, None when it has too few comparisons.

    `measured_frames` are fewer than `frames` when the group has too few pictures of a person for those.
    """

    group: str
    operating_point: str
    frames: int
    measured_frames: int
    cosine: float | None
    extrapolated: bool
    impostors: Rate
    misses: Rate
    """Both at the threshold of the table, on people the adaptation was not learned on."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What a calibration gives."""

    adaptation: Adaptation
    thresholds: tuple[Threshold, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Scores:
    """One group's scores at one number of frames, on people held out: the highest of its impostors, and genuine."""

    frames: int
    pairs: int
    highest: Floats
    genuine: Floats


def calibrate(
    models: Models,
    cache: Cache,
    groups: Sequence[Group],
    population: str,
    *,
    frames: Sequence[int],
    date: str,
    progress: Callable[[str, int, int], object],
) -> Calibration:
    """Learn from all groups; a threshold is the largest that any group needs for the rate at that number of frames.

    The rate is proven at the fewest frames, of which there are most comparisons. With more frames it is counted, a
    group with too few comparisons is taken to need as much more as the largest group does, and no threshold is lower
    than that of fewer frames. `population` is the group whose mean is taken off. `date` goes into the table.
    VisionError as `evaluate`, and `calibration.too_little` when no group has enough pictures.
    """
    material, members = _gather(models, cache, groups, population, progress)
    thresholds: list[Threshold] = []
    rows: list[Row] = []
    scores: dict[str, _Scores] = {}
    fewest: dict[str, dict[str, Cut]] = {}
    for number in sorted(frames):
        for name, own in members.items():
            measured = _held_out_scores(material, own, number)
            if name not in scores or measured.pairs >= FEWEST_PAIRS:
                scores[name] = measured
        for point in OPERATING_POINTS:
            cuts = _cuts(scores, float(point), number, proven=False)
            if point in fewest:
                cuts = _carried(cuts, fewest[point], scores)
            else:
                fewest[point], cuts = cuts, _cuts(scores, float(point), number, proven=True)
            least = max((one.cosine for one in thresholds if one.operating_point == point), default=0.0)
            threshold, said = _settle(scores, cuts, least, point=point, frames=number, date=date)
            thresholds.append(threshold)
            rows += said
    return Calibration(fit(material, np.ones_like(material.population)), tuple(thresholds), tuple(rows))


def write(calibration: Calibration, manifest: Path, directory: Path) -> tuple[Path, Path]:
    """Write the manifest with this calibration in place of its own, and the adaptation beside it; return both paths."""
    data = calibration.adaptation.encode()
    read = read_manifest(manifest)
    text = manifest.read_text(encoding="utf-8").partition(_MARK)[0].rstrip()
    if "[adaptation]" in text or "[[thresholds]]" in text:
        message = f"{manifest} has a calibration that was not written by `govterm face calibrate`"
        advice = "take [adaptation] and [[thresholds]] out of it"
        raise VisionError("model.manifest_malformed", message, advice=advice, retry=False)
    entry: dict[str, object] = {
        "file": ADAPTATION_FILE,
        "sha256": digest(data),
        "models": [read.detector.identity, read.recogniser.identity],
    }
    parts = [text, "", _MARK, "", *_table("[adaptation]", entry)]
    for threshold in calibration.thresholds:
        parts += ["", *_table("[[thresholds]]", msgspec.structs.asdict(threshold))]
    try:
        write_whole(directory / ADAPTATION_FILE, data)
        write_whole(directory / "manifest.toml", ("\n".join(parts) + "\n").encode())
    except OSError as error:
        message, advice = f"{directory} cannot be written: {error}", "name another directory with --output"
        raise VisionError("model.not_stored", message, advice=advice, retry=False) from error
    return directory / "manifest.toml", directory / ADAPTATION_FILE


def _gather(
    models: Models,
    cache: Cache,
    groups: Sequence[Group],
    population: str,
    progress: Callable[[str, int, int], object],
) -> tuple[Material, dict[str, Booleans]]:
    """Describe the pictures of all groups; return them with the membership of each group."""
    lists = [read_images(group.images) for group in groups]
    people = list(
        dict.fromkeys(f"{group.name}/{one.subject}" for group, own in zip(groups, lists, strict=True) for one in own)
    )
    number = {name: at for at, name in enumerate(people)}
    parts: list[Described] = []
    genuine: list[Pairs] = []
    of_group: list[int] = []
    for at, (group, listed) in enumerate(zip(groups, lists, strict=True)):
        genuine.append(_pairs(group, listed) + len(of_group))

        def done(count: int, group: Group = group, total: int = len(listed)) -> None:
            progress(group.name, count, total)

        described = acquire(models, cache, group.root, listed, reference="chip", progress=done).described
        names = [f"{group.name}/{one.subject}" for one in listed]
        subjects = np.array([number.setdefault(name, len(number)) for name in names], np.int64)
        parts.append(Described(subjects, described.references, described.frames, described.referable, described.usable))
        of_group += [at] * len(listed)
    whole = Described(
        subjects=np.concatenate([part.subjects for part in parts]),
        references=np.concatenate([part.references for part in parts]),
        frames=np.concatenate([part.frames for part in parts]),
        referable=np.concatenate([part.referable for part in parts]),
        usable=np.concatenate([part.usable for part in parts]),
    )
    belongs = np.array(of_group)
    members = {group.name: belongs == at for at, group in enumerate(groups)}
    material = Material(whole, folds_of(list(number), whole.subjects), members[population], np.concatenate(genuine))
    return material, members


def _pairs(group: Group, listed: Sequence[Listed]) -> Pairs:
    if group.genuine is not None:
        return np.array(read_pairs(group.genuine, listed), np.int64).reshape(-1, 2)
    names = {one.subject: at for at, one in enumerate(listed)}
    return pairs_within(np.array([names[one.subject] for one in listed], np.int64))


def _held_out_scores(material: Material, own: Booleans, frames: int) -> _Scores:
    """Compare all pictures of a group, each pair under an adaptation learned without the people of both."""
    keep = round(own.sum() ** 2 / 2 * float(OPERATING_POINTS[0])) + 1000
    pairs, highest, genuine = 0, np.empty(0, np.float32), [np.empty(0, np.float32)]
    for pictures, numbers, adaptation in held_out(material):
        chosen = pictures & own
        part = material.described.part(chosen).adapted(adaptation, chips=True)
        templates = templates_of(part, frames)
        differing = Templates(
            numbers[chosen], templates.references, templates.probes, templates.referable, templates.probable
        )
        found = compare_impostors(differing, 2.0, keep=keep)
        pairs += found.rate.trials
        highest = np.sort(np.concatenate([highest, found.highest]))[::-1][:keep]
        if numbers is material.described.subjects:
            place = np.cumsum(chosen) - 1
            within = material.genuine[chosen[material.genuine].all(axis=1)]
            genuine.append(compare_genuine(part, place[within], frames).scores)
    return _Scores(frames, pairs, highest, np.concatenate(genuine))


def _cuts(scores: dict[str, _Scores], rate: float, frames: int, *, proven: bool) -> dict[str, Cut]:
    """Return the threshold that each group needs by itself; VisionError `calibration.too_little`."""
    cuts = {
        name: cut_at(one.highest, one.pairs, rate, proven=proven)
        for name, one in scores.items()
        if one.pairs >= FEWEST_PAIRS
    }
    if not cuts:
        message = f"no group has {FEWEST_PAIRS} comparisons at {frames} frames"
        advice = "give larger sets, with more pictures of a person, or fewer --frames"
        raise VisionError("calibration.too_little", message, advice=advice, retry=False)
    return cuts


def _carried(cuts: dict[str, Cut], fewest: dict[str, Cut], scores: dict[str, _Scores]) -> dict[str, Cut]:
    """Replace the cuts of groups with too few comparisons to see how averaging frames moves the far tail.

    Few people have several pictures; among them one pair of look-alikes, met in every combination of their pictures,
    would set the threshold. Such a group needs what it needed at the fewest frames, and the rise of the largest group.
    """
    largest = max(cuts, key=lambda name: scores[name].pairs)
    rise = cuts[largest].cosine - fewest[largest].cosine
    return {
        name: cut
        if name not in fewest or name == largest or scores[name].pairs >= MANY_PAIRS
        else Cut(round(min(1.0, fewest[name].cosine + rise), 4), extrapolated=True)
        for name, cut in cuts.items()
    }


def _settle(
    scores: dict[str, _Scores], cuts: dict[str, Cut], least: float, *, point: str, frames: int, date: str
) -> tuple[Threshold, list[Row]]:
    """Return the largest threshold that a group needs, `least` if that is more, and what it means for each."""
    worst = max(cuts, key=lambda name: cuts[name].cosine)
    cosine = max(least, cuts[worst].cosine)
    at_it = {name: Rate(int(np.sum(one.highest >= cosine)), one.pairs) for name, one in scores.items()}
    threshold = Threshold(
        operating_point=point,
        frames=frames,
        cosine=cosine,
        bound=float(f"{at_it[worst].upper95:.6g}"),
        data=worst if scores[worst].frames == frames else f"{worst} at {scores[worst].frames} frames",
        pairs=at_it[worst].trials,
        matches=at_it[worst].events,
        date=date,
        extrapolated=cuts[worst].extrapolated,
    )
    rows = [
        Row(
            name,
            point,
            frames,
            one.frames,
            cuts[name].cosine if name in cuts else None,
            name in cuts and cuts[name].extrapolated,
            at_it[name],
            Rate(int(np.sum(one.genuine < cosine)), len(one.genuine)),
        )
        for name, one in scores.items()
    ]
    return threshold, rows


def _table(head: str, values: dict[str, object]) -> list[str]:
    """Return a TOML table; JSON writes strings, numbers, lists and booleans as TOML does."""
    return [head, *(f"{key} = {msgspec.json.encode(value).decode()}" for key, value in values.items())]
