"""The TensorFlow Lite files become the pinned ONNX bytes, and compute what they did (T9, T18)."""

import hashlib

import numpy as np
import onnxruntime
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vision.attack_rig import EYE, MESH, source
from vision.conversion import convert
from vision.errors import VisionError
from vision.manifest import ModelEntry


def interpret(data: bytes, image: np.ndarray) -> list[np.ndarray]:
    """Run a TensorFlow Lite file operation by operation, rows of (height, width, channel), in double precision."""
    file = tflite.Model.GetRootAs(data, 0)
    graph = file.Subgraphs(0)
    kinds = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.INT32: np.int32}
    values: dict[int, np.ndarray] = {int(graph.Inputs(0)): image.astype(np.float64)}

    def value(number: int) -> np.ndarray:
        if number not in values:
            tensor = graph.Tensors(number)
            raw = file.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
            values[number] = np.frombuffer(raw, kinds[tensor.Type()]).reshape(tensor.ShapeAsNumpy()).astype(np.float64)
        return values[number]

    def windows(x: np.ndarray, options: object, size: tuple[int, int], fill: float) -> np.ndarray:
        step = (options.StrideH(), options.StrideW())
        if options.Padding() == tflite.Padding.SAME:
            lacks = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(x.shape[1:3], step, size, strict=True)]
            pads = [(0, 0), *((lack // 2, lack - lack // 2) for lack in lacks), (0, 0)]
            x = np.pad(x, pads, constant_values=fill)
        return np.lib.stride_tricks.sliding_window_view(x, size, (1, 2))[:, :: step[0], :: step[1]]

    names = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = file.OperatorCodes(operator.OpcodeIndex())
        name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        x, *rest = (value(int(number)) for number in operator.InputsAsNumpy())
        table = operator.BuiltinOptions()
        if name == "CONV_2D":
            options = tflite.Conv2DOptions()
            options.Init(table.Bytes, table.Pos)
            result = np.einsum("nhwcij,oijc->nhwo", windows(x, options, rest[0].shape[1:3], 0), rest[0], optimize=True)
            result += rest[1]
        elif name == "DEPTHWISE_CONV_2D":
            options = tflite.DepthwiseConv2DOptions()
            options.Init(table.Bytes, table.Pos)
            result = np.einsum("nhwcij,ijc->nhwc", windows(x, options, rest[0].shape[1:3], 0), rest[0][0]) + rest[1]
        elif name == "MAX_POOL_2D":
            options = tflite.Pool2DOptions()
            options.Init(table.Bytes, table.Pos)
            size = (options.FilterHeight(), options.FilterWidth())
            result = windows(x, options, size, -np.inf).max(axis=(4, 5))
        elif name == "PRELU":
            result = np.where(x > 0, x, x * rest[0])
        elif name == "ADD":
            result = x + rest[0]
        elif name == "PAD":
            result = np.pad(x, rest[0].astype(int))
        else:
            assert name == "RESHAPE"
            result = x.reshape(graph.Tensors(int(operator.Outputs(0))).ShapeAsNumpy())
        values[int(operator.Outputs(0))] = result
    return [values[int(number)].reshape(1, -1) for number in graph.OutputsAsNumpy()]


@pytest.mark.parametrize("entry", [MESH, EYE], ids=lambda entry: entry.name)
def test_the_converted_model_computes_the_same(entry: ModelEntry):
    data = convert(source(entry), entry.input_shape, entry.outputs)
    image = np.random.default_rng(4).random((1, *entry.input_shape[2:], 3)).astype(np.float32)
    expected = interpret(source(entry), image)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(image.transpose(0, 3, 1, 2))})
    assert [output.name for output in session.get_outputs()] == list(entry.outputs)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("entry", [MESH, EYE], ids=lambda entry: entry.name)
def test_the_bytes_are_pinned(entry: ModelEntry):
    data = convert(source(entry), entry.input_shape, entry.outputs)
    assert hashlib.sha256(data).hexdigest() == entry.prepared_sha256


def test_another_input_shape_is_refused():
    with pytest.raises(VisionError, match="its input is") as caught:
        convert(source(MESH), (1, 3, 128, 128), MESH.outputs)
    assert caught.value.code == "model.damaged"


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=64), cut=st.integers(0, 4000))
def test_anything_else_is_refused(data: bytes, cut: int):
    for bad in (data, source_start()[:cut] + data):
        with pytest.raises(VisionError) as caught:
            convert(bad, MESH.input_shape, MESH.outputs)
        assert caught.value.code == "model.damaged"


def source_start() -> bytes:
    return source(EYE)[:4000]
