"""An evaluation from files to figures: on two portraits in the public domain, and on synthetic people (T9)."""

import io
import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure

from vision.errors import VisionError
from vision.evaluation import calibrate as calibration
from vision.evaluation.acquire import Acquired, Cache, acquire
from vision.evaluation.calibrate import Group, calibrate, write
from vision.evaluation.comparisons import Described
from vision.evaluation.evaluate import Evaluation, Task, as_json, evaluate
from vision.evaluation.images import Listed
from vision.evaluation.report import det_curve, render
from vision.evaluation.tail import Cut
from vision.manifest import MANIFEST, read_manifest
from vision.models import Image, Models

PEOPLE = ("hopper", "collins")
VIEWS = 3


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, hopper: Image, collins: Image) -> Path:
    """Three views of each portrait, and files that show nobody."""
    root = tmp_path_factory.mktemp("pictures")
    lines = []
    for name, portrait in zip(PEOPLE, (hopper, collins), strict=True):
        for view in range(VIEWS):
            path = f"{name}{view}.jpg"
            height, width = portrait.shape[:2]
            turned = cv2.getRotationMatrix2D((width / 2, height / 2), 3.0 * view, 1 - 0.1 * view)
            cv2.imwrite(str(root / path), cv2.warpAffine(portrait, turned, (width, height)))
            lines.append(f"{name}\t{path}\n")
    (root / "images.tsv").write_text("".join(lines))
    cv2.imwrite(str(root / "wall.png"), np.full((300, 200, 3), 130, np.uint8))
    cv2.imwrite(str(root / "dot.png"), np.full((1, 1, 3), 130, np.uint8))
    cv2.imwrite(str(root / "line.png"), np.full((1, 1200, 3), 130, np.uint8))
    (root / "torn.jpg").write_bytes((root / "hopper0.jpg").read_bytes()[:2000])
    (root / "hard.tsv").write_text(
        "".join(lines) + "hopper\twall.png\nhopper\tdot.png\ncollins\ttorn.jpg\ncollins\tline.png\n"
    )
    return root


@pytest.fixture
def cache(tmp_path: Path):
    kept = Cache(tmp_path / "faces")
    yield kept
    kept.close()


@pytest.fixture(scope="module")
def fonts() -> None:
    """Have matplotlib open its fonts, which it keeps, before descriptors are counted."""
    figure = Figure()
    figure.text(0, 0, "0 $x^{-1}$")
    figure.savefig(io.BytesIO(), format="svg")


def measure(models: Models, cache: Cache, task: Task) -> Evaluation:
    return evaluate(models, cache, task, lambda done, total: None)


def test_two_people_are_told_apart_and_recognised(models: Models, cache: Cache, pictures: Path) -> None:
    said = as_json(measure(models, cache, Task(pictures / "images.tsv", pictures)))
    threshold = models.threshold("1e-5", 1)
    assert (said["operating_point"], said["threshold"], said["frames"]) == (1e-5, threshold.cosine, 1)
    assert (said["fmr"]["pairs"], said["fmr"]["matches"], said["fmr"]["bootstrap"]) == (9, 0, (0.0, 0.0))
    assert said["fmr"]["upper95"] == pytest.approx(1 - 0.05 ** (1 / 9))
    assert said["fmr_one_per_identity"]["pairs"] == 1
    assert (said["fnmr"]["pairs"], said["fnmr"]["misses"]) == (6, 0)
    assert said["failure_to_acquire"] | {"interval": None} == {
        "pictures": 6,
        "failures": 0,
        "rate": 0.0,
        "interval": None,
        "reasons": {},
    }
    assert set(said["milliseconds"]) == {"decode", "detect", "chip", "align", "embed", "all_comparisons"}
    assert len(said["worst_impostor_scores"]) == 9
    text = msgspec.json.encode(said).decode()
    assert not any(name in text for name in PEOPLE)


def test_what_cannot_be_acquired_is_counted_by_reason_and_missed(
    models: Models, cache: Cache, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "pairs.tsv").write_text("hopper0.jpg\thopper1.jpg\ncollins0.jpg\ttorn.jpg\nwall.png\thopper2.jpg\n")
    task = Task(pictures / "hard.tsv", pictures, genuine=tmp_path / "pairs.tsv", reference="full")
    said = as_json(measure(models, cache, task))
    assert said["failure_to_acquire"]["reasons"] == {"no_face": 3, "unreadable": 1}
    assert said["fmr"]["pairs"] == 9
    assert (said["fnmr"]["pairs"], said["fnmr"]["misses"]) == (1, 0)
    assert (said["fnmr_generalised"]["pairs"], said["fnmr_generalised"]["misses"]) == (3, 2)
    # Hopper alone misses one of two, Collins alone the only one: nothing narrower is known of two people.
    assert (said["fnmr"]["bootstrap"], said["fnmr_generalised"]["bootstrap"]) == ((0.0, 0.0), (0.5, 1.0))


def test_frames_average_other_pictures_of_the_person(models: Models, cache: Cache, pictures: Path) -> None:
    two, three = (
        as_json(measure(models, cache, Task(pictures / "images.tsv", pictures, frames=frames))) for frames in (2, 3)
    )
    assert (two["fmr"]["pairs"], two["fnmr"]["pairs"], two["fnmr"]["misses"]) == (9, 6, 0)
    assert two["left_out"] == {"probes": 0, "genuine_pairs": 0}
    assert (three["fmr"]["pairs"], three["fnmr"]["pairs"], three["fnmr"]["rate"]) == (9, 0, None)
    assert three["left_out"] == {"probes": 0, "genuine_pairs": 6}


def test_an_empty_list_of_pairs_means_none(models: Models, cache: Cache, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "none.tsv").touch()
    said = as_json(measure(models, cache, Task(pictures / "images.tsv", pictures, genuine=tmp_path / "none.tsv")))
    assert said["fnmr"] == {"pairs": 0, "misses": 0, "rate": None, "interval": (0.0, 1.0), "bootstrap": (0.0, 1.0)}


def test_each_picture_is_described_once(
    models: Models, cache: Cache, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [Listed("hopper", "hopper0.jpg"), Listed("collins", "torn.jpg")]
    first = acquire(models, cache, pictures, listed, reference="chip")
    monkeypatch.setattr("vision.evaluation.acquire.decode_picture", _forbidden)
    again = acquire(models, cache, pictures, listed, reference="chip")
    for one in ("references", "frames", "usable", "referable"):
        assert np.array_equal(getattr(first.described, one), getattr(again.described, one))
    assert again.failures == first.failures == {1: "unreadable"}
    with pytest.raises(AssertionError):
        acquire(models, cache, pictures, listed, reference="full")


def test_a_listed_picture_that_is_not_there_ends_the_measurement(models: Models, cache: Cache, pictures: Path) -> None:
    for path in ("none.jpg", ".", "\0"):
        with pytest.raises(VisionError) as caught:
            acquire(models, cache, pictures, [Listed("a", "hopper0.jpg"), Listed("a", path)], reference="full")
        assert caught.value.code == "images.missing"


def test_embeddings_are_for_their_owner_and_outside_a_repository(tmp_path: Path) -> None:
    kept = Cache(tmp_path / "own")
    kept.close()
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "own" / "faces.db").stat().st_mode) == 0o600
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    with pytest.raises(VisionError) as caught:
        Cache(tmp_path / "repository" / "cache")
    assert caught.value.code == "cache.in_repository"
    assert not (tmp_path / "repository" / "cache").exists()
    (tmp_path / "repository" / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "repository" / "deep")
    with pytest.raises(VisionError):
        Cache(tmp_path / "link" / "cache")


def test_a_cache_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "faces.db").write_bytes(b"not a database" * 100)
    for directory in (tmp_path / "file", tmp_path):
        with pytest.raises(VisionError) as caught:
            Cache(directory)
        assert caught.value.code == "cache.unusable"


@pytest.mark.usefixtures("fonts")
def test_the_page_is_complete_in_itself(models: Models, cache: Cache, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "none.tsv").touch()
    for genuine in (None, tmp_path / "none.tsv"):
        done = measure(models, cache, Task(pictures / "hard.tsv", pictures, genuine=genuine))
        page = render(done, name="<two people>")
        assert "<svg" in page
        assert "&lt;two people&gt;" in page
        assert not any(loaded in page for loaded in ("<script", "src=", "<link", "url(http", *PEOPLE))
        assert "no_face: 3" in page


def test_the_curve_is_that_of_the_scores(models: Models, cache: Cache, pictures: Path) -> None:
    done = measure(models, cache, Task(pictures / "images.tsv", pictures))
    fmr, fnmr = det_curve(done)
    thresholds = np.linspace(-1, 1, 4000, endpoint=False)[:, None]
    assert len(done.impostors.highest) == done.impostors.rate.trials  # so few that all are kept
    assert np.array_equal(fnmr, np.mean(done.genuine.scores < thresholds, axis=1))
    # Counted in bins: a score within rounding of an edge may be on either side of it.
    by_hand = np.mean(done.impostors.highest >= thresholds, axis=1)
    assert np.max(fmr[1:] - by_hand[:-1]) <= 0
    assert np.max(by_hand[1:] - fmr[:-1]) <= 0
    assert np.mean(fmr == by_hand) > 0.99


# Synthetic people: an embedding is the person's own direction, some noise, the crowd's common direction, and a shift
# that a chip adds to every picture.

GROUPS = {"west": 0.2, "east": 0.9}


def synthetic(models: Models, cache: Cache, root: Path, listed: Sequence[Listed], **options: object) -> Acquired:
    random = np.random.default_rng(len(listed))
    common, shift = np.random.default_rng(7).normal(size=(2, 128))
    subjects = np.unique([one.subject for one in listed], return_inverse=True)[1]
    own = random.normal(size=(subjects.max() + 1, 128)) + GROUPS[root.name] * common
    full, chip = (own[subjects] + 0.5 * random.normal(size=(len(listed), 128)) for _ in range(2))
    chip += 0.5 * shift
    full, chip = ((part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32) for part in (full, chip))
    acquired = np.ones(len(listed), np.bool_)
    return Acquired(Described(subjects, chip, full, acquired, acquired))


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Group]:
    monkeypatch.setattr(calibration, "acquire", synthetic)
    made = []
    for name, views in (("west", 3), ("east", 2)):
        (tmp_path / name).mkdir()
        listing = tmp_path / name / "images.tsv"
        listing.write_text(
            "".join(f"p{person}\t{person}-{view}.jpg\n" for person in range(120) for view in range(views))
        )
        made.append(Group(name, listing, tmp_path / name))
    return made


def learn(models: Models, cache: Cache, groups: list[Group], population: str = "east", frames: Sequence[int] = (1, 3)):
    return calibrate(
        models, cache, groups, population, frames=frames, date="2026-01-02", progress=lambda name, done, total: None
    )


def test_a_calibration_learns_the_worst_groups_thresholds(models: Models, cache: Cache, groups: list[Group]) -> None:
    done = learn(models, cache, groups)
    assert [(row.operating_point, row.frames) for row in done.thresholds] == [
        (point, frames) for frames in (1, 3) for point in ("1e-4", "1e-5", "1e-6")
    ]
    for threshold in done.thresholds:
        rows = [
            row
            for row in done.rows
            if (row.operating_point, row.frames) == (threshold.operating_point, threshold.frames)
        ]
        assert {row.group for row in rows} == {"west", "east"}
        worst = max((row for row in rows if row.cosine is not None), key=lambda row: row.cosine)
        fewer = [one.cosine for one in done.thresholds if one.operating_point == threshold.operating_point]
        assert threshold.cosine == max(worst.cosine, fewer[0])
        assert threshold.data.partition(" ")[0] == worst.group
        assert (threshold.pairs, threshold.matches) == (worst.impostors.trials, worst.impostors.events)
        assert threshold.bound == pytest.approx(worst.impostors.upper95, rel=0.01)
        # Nobody has three pictures in the east: it counts as it was at one frame.
        assert {row.group: row.measured_frames for row in rows} == {"west": threshold.frames, "east": 1}
    first = [row for row in done.rows if (row.operating_point, row.frames) == ("1e-4", 1)]
    # Every pair across people exactly once, whatever the folds; every genuine pair as well.
    assert [row.impostors.trials for row in first] == [360 * 359 // 2 - 120 * 3, 240 * 239 // 2 - 120]
    assert [row.misses.trials for row in first] == [120 * 3, 120]
    assert all(row.misses.events == 0 for row in first)


def test_a_small_group_needs_as_much_more_as_the_largest() -> None:
    """A pair of look-alikes among the few people with several pictures sets no threshold."""
    none = np.empty(0, np.float32)
    pairs = {"large": 8_000_000, "other": 1_000_000, "small": 200_000}
    scores = {name: calibration._Scores(2, count, none, none) for name, count in pairs.items()}
    alone = {"large": Cut(0.45, False), "other": Cut(0.44, False), "small": Cut(0.47, False)}
    paired = {"large": Cut(0.46, False), "other": Cut(0.49, False), "small": Cut(0.52, False)}
    assert calibration._carried(paired, alone, scores) == paired | {"small": Cut(0.48, True)}


def test_the_adaptation_takes_off_what_a_population_shares(models: Models, cache: Cache, groups: list[Group]) -> None:
    done = learn(models, cache, groups, frames=(1,))
    east = synthetic(models, cache, groups[1].root, [Listed(f"p{at // 2}", str(at)) for at in range(240)]).described
    before = east.references[::2] @ east.frames[1::2].T
    adapted = east.adapted(done.adaptation, chips=True)
    after = adapted.references[::2] @ adapted.frames[1::2].T
    others = ~np.eye(120, dtype=bool)
    assert before[others].mean() > 0.2
    assert abs(after[others].mean()) < 0.05
    assert after.diagonal().min() > after[others].max()


def test_the_same_pictures_give_the_same_files(
    models: Models, cache: Cache, groups: list[Group], tmp_path: Path, model_directory: Path
) -> None:
    from vision.models import load

    done = learn(models, cache, groups)
    write(done, MANIFEST, tmp_path / "one")
    write(learn(models, cache, groups), MANIFEST, tmp_path / "two")
    for name in ("manifest.toml", "adaptation.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_manifest(tmp_path / "one" / "manifest.toml").thresholds == done.thresholds
    loaded = load(model_directory, tmp_path / "one" / "manifest.toml")
    assert loaded.threshold("1e-6", 3) == done.thresholds[-1]
    assert np.array_equal(loaded.adaptation.probe_map, done.adaptation.probe_map)
    # Once more over its own manifest: in place of the former, not beside it.
    write(done, tmp_path / "one" / "manifest.toml", tmp_path / "one")
    assert (tmp_path / "one" / "manifest.toml").read_bytes() == (tmp_path / "two" / "manifest.toml").read_bytes()


def test_too_little_to_learn_from_is_refused(models: Models, cache: Cache, groups: list[Group], tmp_path: Path) -> None:
    (tmp_path / "none.tsv").touch()
    without_pairs = [Group(one.name, one.images, one.root, tmp_path / "none.tsv") for one in groups]
    few = tmp_path / "west" / "few.tsv"
    few.write_text("".join(f"p{person}\t{person}-{view}.jpg\n" for person in range(20) for view in range(2)))
    for material, population in ((without_pairs, "east"), ([Group("west", few, groups[0].root)], "west")):
        with pytest.raises(VisionError) as caught:
            learn(models, cache, material, population)
        assert caught.value.code == "calibration.too_little"


def test_a_manifest_that_was_calibrated_by_hand_is_not_overwritten(
    models: Models, cache: Cache, groups: list[Group], tmp_path: Path
) -> None:
    by_hand = tmp_path / "manifest.toml"
    by_hand.write_text(MANIFEST.read_text().replace("# Written by", "# By"))
    done = learn(models, cache, groups, frames=(1,))
    with pytest.raises(VisionError) as caught:
        write(done, by_hand, tmp_path / "out")
    assert caught.value.code == "model.manifest_malformed"
    with pytest.raises(VisionError) as caught:
        write(done, MANIFEST, by_hand)
    assert caught.value.code == "model.not_stored"


def _forbidden(*_: object) -> None:
    raise AssertionError("must not be called")


def test_a_damaged_row_of_the_cache_does_not_pass_for_a_face(
    models: Models, cache: Cache, pictures: Path, tmp_path: Path
) -> None:
    listed = [Listed("hopper", "hopper0.jpg")]
    acquire(models, cache, pictures, listed, reference="full")
    connection = sqlite3.connect(tmp_path / "faces" / "faces.db")
    connection.execute("UPDATE faces SET seen = x'00'")
    connection.commit()
    connection.close()
    assert acquire(models, cache, pictures, listed, reference="full").described.usable.all()
