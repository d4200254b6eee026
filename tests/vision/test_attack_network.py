"""An operator's network is used only as the manifest says, and fails closed (T9, T18)."""

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import helper

from vision.attack.network import PassiveNetwork, crop
from vision.errors import VisionError
from vision.manifest import ModelEntry, Pixels
from vision.models import Network, load_network

SHAPE = (1, 3, 32, 32)
BOX = np.array([60, 40, 80, 100], np.float32)


def brightness(outputs: int = 2) -> bytes:
    """A network whose logits are twice the mean brightness, and 1: live when the face is brighter than half."""
    slope = helper.make_tensor("slope", onnx.TensorProto.FLOAT, [1, outputs], [2.0, *[0.0] * (outputs - 1)])
    shift = helper.make_tensor("shift", onnx.TensorProto.FLOAT, [1, outputs], [0.0, *[1.0] * (outputs - 1)])
    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1, 1])
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["level"]),
        helper.make_node("Mul", ["level", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, SHAPE)
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, outputs])
    graph = helper.make_graph(nodes, "tiny", [image], [logits], [slope, shift, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def entry(data: bytes, shape: tuple[int, int, int, int] = SHAPE) -> ModelEntry:
    return ModelEntry(
        name="tiny",
        licence="CC0-1.0",
        source="made by this test",
        input_shape=shape,
        pixels=Pixels(order="rgb", scale=1 / 255),
        prepared_sha256=hashlib.sha256(data).hexdigest(),
    )


def stored(directory: Path, data: bytes) -> ModelEntry:
    row = entry(data)
    (directory / row.file_name).write_bytes(data)
    return row


@pytest.mark.parametrize(
    ("level", "outcome", "reason", "score"),
    [(230, "bona_fide", None, 1.196), (30, "attack", "attack.network", 1.765)],
)
def test_judges_by_its_logits(tmp_path: Path, level: int, outcome: str, reason: str | None, score: float):
    network = PassiveNetwork(load_network(stored(tmp_path, brightness()), tmp_path))
    frame = np.full((200, 200, 3), level, np.uint8)
    for _ in range(2):
        network.look(frame, BOX)
    assert network.results()[0].outcome == "undecided"
    network.look(frame, BOX)
    (result,) = network.results()
    assert (result.layer, result.outcome, result.reason) == ("network", outcome, reason)
    assert result.evidence["margin"] == pytest.approx(2 * level / 255 - 1, abs=1e-5)
    assert result.score == pytest.approx(1 - result.evidence["margin"])
    network.wipe()
    assert network.results()[0].outcome == "undecided"


def test_a_missing_or_other_file_is_refused(tmp_path: Path):
    row = stored(tmp_path, brightness())
    path = tmp_path / row.file_name
    path.write_bytes(brightness()[:-1] + b"\0")
    with pytest.raises(VisionError) as caught:
        PassiveNetwork(load_network(row, tmp_path))
    assert caught.value.code == "model.damaged"
    path.unlink()
    with pytest.raises(VisionError) as caught:
        PassiveNetwork(load_network(row, tmp_path))
    assert caught.value.code == "model.missing"


def test_another_kind_of_network_is_refused(tmp_path: Path):
    three = brightness(3)
    for data, shape in ((three, SHAPE), (brightness(), (1, 3, 32, 16)), (b"no model", SHAPE)):
        row = entry(data, shape)
        (tmp_path / row.file_name).write_bytes(data)
        with pytest.raises(VisionError) as caught:
            PassiveNetwork(load_network(row, tmp_path))
        assert caught.value.code == "model.damaged"


def test_the_crop_is_one_and_a_half_boxes_mirrored_beyond_the_frame():
    frame = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (200, 1, 3))
    inside = crop(frame, np.array([60, 60, 80, 60], np.float32), 60)
    assert inside is not None
    assert inside.shape == (60, 60, 3)
    assert inside[30, :, 0].astype(float) == pytest.approx(40 + 2 * np.arange(60) + 0.5, abs=1)
    beyond = crop(frame, np.array([0, 60, 40, 40], np.float32), 60)
    assert beyond is not None
    assert beyond[30, :10, 0].astype(float) == pytest.approx(10 - np.arange(10) - 0.5, abs=1)
    assert crop(frame, np.array([500, 500, 40, 40], np.float32), 60) is None


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    box=npst.arrays(np.float32, 4, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))
    | npst.arrays(np.float32, 4, elements=st.floats(-400, 400, width=32)),
)
@example((1, 80), np.array([-160, 0, 400, 1], np.float32))
def test_any_box_is_a_crop_or_none(shape: tuple[int, int], box: np.ndarray):
    with np.errstate(all="ignore"):
        square = crop(np.zeros((*shape, 3), np.uint8), box, 32)
    assert square is None or square.shape == (32, 32, 3)


def test_with_the_networks_of_the_directory_that_is_given():
    """The known network where GOVTERM_FACE_MODELS has it; the loader's answer for an empty directory elsewhere."""
    directory = Path(os.environ.get("GOVTERM_FACE_MODELS", "/nonexistent"))
    path = directory / "pad" / "minifas_v2se_128.onnx"
    sha256 = "af2381b88f38769222ed93379e12444e2a50814575de1c46170de570c55a42b6"
    row = ModelEntry(
        name="minifas-v2se",
        licence="Apache-2.0 (weights' data unclear)",
        source="VietAnh954/face-antispoof-onnx",
        input_shape=(1, 3, 128, 128),
        pixels=Pixels(order="rgb", scale=1 / 255),
        prepared_sha256=sha256,
    )
    if not path.is_file():
        with pytest.raises(VisionError, match="cannot be read"):
            PassiveNetwork(load_network(row, directory))
        return
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == sha256
    network = PassiveNetwork(Network(row, data))
    for _ in range(3):
        network.look(np.full((200, 200, 3), 120, np.uint8), BOX)
    assert network.results()[0].outcome == "attack"  # a grey wall is nobody
