"""`govterm face` and `govterm models` as somebody who measures meets them: figures, refusals, exit codes (T9)."""

import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import vision.evaluation
from runtime import cli, face
from sim import assets as rig_assets
from vision import store
from vision.manifest import MANIFEST, read_manifest

ENROLLED = face.ENROLLED
CACHE = Path(os.environ.get("GOVTERM_CACHE", Path(__file__).parents[2] / ".cache" / "govterm"))


@pytest.fixture(scope="module")
def model_directory() -> Path:
    store.prepare(CACHE / "models")
    return CACHE / "models"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two portraits, each under two names."""
    root = tmp_path_factory.mktemp("pictures")
    lines = []
    for name, path in rig_assets.prepare(CACHE / "assets").portraits.items():
        for copy in (1, 2):
            (root / f"{name}{copy}").write_bytes(path.read_bytes())
            lines.append(f"{name}\t{name}{copy}\n")
    (root / "images.tsv").write_text("".join(lines))
    return root


@pytest.fixture(autouse=True)
def no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "ENROLLED", tmp_path / "govterm.toml")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def invoke(*arguments: str | Path) -> Result:
    environment = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner().invoke(cli.app, list(map(str, arguments)), env=environment)


def evaluate(pictures: Path, model_directory: Path, *more: str | Path) -> Result:
    listing = pictures / "images.tsv"
    return invoke("face", "evaluate", "--images", listing, "--root", pictures, "--models", model_directory, *more)


def test_the_figures_have_their_names(pictures: Path, model_directory: Path, tmp_path: Path) -> None:
    done = evaluate(pictures, model_directory, "--json", "--operating-point", "0.00001")
    assert (done.exit_code, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    for name in ("fmr", "fmr_one_per_identity"):
        assert {"pairs", "matches", "rate", "upper95", "bootstrap"} <= set(said[name])
    for name in ("fnmr", "fnmr_generalised"):
        assert set(said[name]) == {"pairs", "misses", "rate", "interval", "bootstrap"}
    assert (said["fmr"]["pairs"], said["fnmr"]["pairs"], said["fnmr"]["misses"]) == (4, 2, 0)
    assert said["operating_point"] == 1e-5
    (row,) = (row for row in read_manifest().thresholds if (row.operating_point, row.frames) == ("1e-5", 1))
    assert said["threshold"] == row.cosine
    assert said["failure_to_acquire"]["failures"] == 0
    assert said["milliseconds"]["embed"] > 0
    assert (tmp_path / "cache" / "govterm" / "faces" / "faces.db").exists()


def test_a_person_reads_a_table_and_a_page(pictures: Path, model_directory: Path, tmp_path: Path) -> None:
    done = evaluate(pictures, model_directory, "--reference", "full", "--report", tmp_path / "none" / "page.html")
    assert (done.exit_code, done.stderr.count("No such file")) == (1, 1)
    done = evaluate(pictures, model_directory, "--reference", "full")
    assert done.exit_code == 0
    assert "fmr_one_per_identity  0 = 0/1, 95 %" in done.stdout
    assert "full reference, 2 people" in done.stdout


def test_a_terminal_is_known_by_its_configuration() -> None:
    unit = Path(face.__file__).parent.parent / "systemd" / "govterm.service.in"
    assert Path("/etc/govterm/govterm.toml") == ENROLLED
    assert str(ENROLLED) in unit.read_text()


def test_a_terminal_in_service_measures_nobody(pictures: Path, model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "govterm.toml").touch()
    groups = ("--set", f"a={pictures / 'images.tsv'}@{pictures}", "--population", "a")
    for done in (evaluate(pictures, model_directory), invoke("face", "calibrate", *groups, "--output", tmp_path)):
        assert done.exit_code == 1
        assert "(face.enrolled)" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_machine_that_hides_whether_it_is_a_terminal_is_one(
    pictures: Path, model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to("loop")  # root as well cannot look behind it
    monkeypatch.setattr(face, "ENROLLED", tmp_path / "loop" / "govterm.toml")
    done = evaluate(pictures, model_directory)
    assert (done.exit_code, "(face.enrolled)" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--operating-point", "1e-9"), "model.no_threshold"),
        (("--frames", "9"), "model.no_threshold"),
        (("--models", "/nowhere"), "model.missing"),
        (("--manifest", "/nowhere"), "model.manifest_malformed"),
        (("--images", "/nowhere"), "images.malformed"),
        (("--genuine", "/nowhere"), "images.malformed"),
        (("--root", "/nowhere"), "images.missing"),
        (("--cache", "/proc/nowhere"), "cache.unusable"),
    ],
)
def test_each_refusal_is_one_line_with_a_code(
    pictures: Path, model_directory: Path, more: tuple[str, str], code: str
) -> None:
    done = evaluate(pictures, model_directory, *more)
    assert done.exit_code == 1
    assert f"({code})" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_embeddings_stay_out_of_the_repository(pictures: Path, model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    done = evaluate(pictures, model_directory, "--cache", tmp_path / "repository" / "faces")
    assert "(cache.in_repository)" in done.stderr


def test_two_people_are_too_few_to_calibrate_on(pictures: Path, model_directory: Path, tmp_path: Path) -> None:
    one = f"two={pictures / 'images.tsv'}@{pictures}"
    output = ("--output", tmp_path / "out", "--models", model_directory)
    done = invoke("face", "calibrate", "--set", one, "--population", "two", *output)
    assert done.exit_code == 1
    assert "(calibration.too_little)" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ("--set", "a=b", "--population", "a"),
        ("--set", "a=b@c", "--population", "b"),
        ("--set", "a=b@c", "--set", "a=d@e", "--population", "a"),
        ("--set", "a=b@c", "--population", "a", "--frames", "1,x"),
        ("--set", "a=b@c", "--population", "a", "--frames", "0"),
        ("--set", "a=b@c", "--population", "a", "--genuine", "d=e"),
    ],
)
def test_wrong_arguments_of_a_calibration(wrong: tuple[str, ...]) -> None:
    assert invoke("face", "calibrate", *wrong).exit_code == 2


@pytest.mark.parametrize("rate", ["seldom", "nan", "inf", "0", "1", "-1e-5"])
def test_an_operating_point_that_is_no_rate(pictures: Path, model_directory: Path, rate: str) -> None:
    assert evaluate(pictures, model_directory, f"--operating-point={rate}").exit_code == 2


def test_without_its_extra_the_command_says_so(
    pictures: Path, model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("calibrate", "evaluate", "report"):
        monkeypatch.delitem(sys.modules, f"vision.evaluation.{module}", raising=False)
        monkeypatch.delattr(vision.evaluation, module, raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = evaluate(pictures, model_directory)
    assert done.exit_code == 69
    assert "extra `evaluation`" in done.stderr


def test_models_are_verified_with_their_thresholds(model_directory: Path, tmp_path: Path) -> None:
    done = invoke("models", "verify", "--directory", model_directory)
    assert done.exit_code == 0
    for row in read_manifest().thresholds:
        assert str(row.cosine) in done.stdout
    missing = invoke("models", "verify", "--directory", tmp_path)
    assert (missing.exit_code, "(model.missing)" in missing.stderr) == (1, True)


def test_models_are_installed_by_hash(model_directory: Path, tmp_path: Path) -> None:
    files = [file.path for file in store.list_models(model_directory)]
    target = tmp_path / "models"
    part = invoke("models", "install", files[0], "--directory", target, "--manifest", MANIFEST)
    assert (part.exit_code, "is not complete" in part.stderr) == (1, True)
    assert invoke("models", "install", *files[1:], "--directory", target).exit_code == 0
    assert invoke("models", "list", "--directory", target, "--manifest", MANIFEST).exit_code == 0
    unknown = invoke("models", "install", MANIFEST, "--directory", target)
    assert (unknown.exit_code, "(model.unknown)" in unknown.stderr) == (1, True)
