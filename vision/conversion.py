"""Rewrite the TensorFlow Lite files of the face's points as fp32 ONNX models of fixed shape, the same bytes each time.

`onnx` and `tflite` are imported only here: the vision process never loads them. Only the operations that they
consist of are known; any other, or any option that these do not use, is refused.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import tflite
from onnx import helper, numpy_helper

from vision.manifest import damaged

_IR_VERSION = 10
_OPSET = 21
_DTYPES = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.INT32: np.int32}
_Constants = dict[str, npt.NDArray[np.generic]]


def convert(source: bytes, input_shape: tuple[int, int, int, int], outputs: Sequence[str]) -> bytes:
    """Return the model with channels first, its outputs renamed in their order; `input_shape` must be the file's own.

    VisionError `model.damaged` for a file that is no such model.
    """
    try:
        return _Conversion(source).model(input_shape, outputs)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, struct.error) as error:
        advice = "prepare the models from the pinned wheel"
        raise damaged("TensorFlow Lite file", f"no model of the known operations: {error}", advice) from error


class _Conversion:
    """One graph on its way from rows of (height, width, channel) to ONNX's channels first."""

    def __init__(self, source: bytes) -> None:
        if not tflite.Model.ModelBufferHasIdentifier(source, 0):
            raise ValueError("it does not carry the mark TFL3")
        self._file = tflite.Model.GetRootAs(source, 0)
        self._graph = self._file.Subgraphs(0)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: _Constants = {}

    def model(self, input_shape: tuple[int, int, int, int], outputs: Sequence[str]) -> bytes:
        """Return the finished ONNX model."""
        batch, channels, height, width = input_shape
        image = int(self._graph.Inputs(0))
        if self._shape(image) != (batch, height, width, channels):
            raise ValueError(f"its input is {self._shape(image)}")
        for number in range(self._graph.OperatorsLength()):
            self._translate(self._graph.Operators(number))
        last = dict(zip((int(number) for number in self._graph.OutputsAsNumpy()), outputs, strict=True))
        for number, name in last.items():
            self._nodes.append(helper.make_node("Flatten", [_name(number)], [name]))
        graph = helper.make_graph(
            self._nodes,
            "converted",
            [helper.make_tensor_value_info(_name(image), onnx.TensorProto.FLOAT, input_shape)],
            [
                helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, int(np.prod(self._shape(number)))])
                for number, name in last.items()
            ],
            [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in self._constants.items()],
        )
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))

    def _translate(self, operator: Any) -> None:
        code = self._file.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = [int(number) for number in operator.InputsAsNumpy()]
        (output,) = (int(number) for number in operator.OutputsAsNumpy())
        operation = tflite.BuiltinOperator
        if kind == operation.CONV_2D:
            self._convolve(inputs, output, _options(operator, tflite.Conv2DOptions()), depthwise=False)
        elif kind == operation.DEPTHWISE_CONV_2D:
            self._convolve(inputs, output, _options(operator, tflite.DepthwiseConv2DOptions()), depthwise=True)
        elif kind == operation.PRELU:
            self._prelu(inputs, output)
        elif kind == operation.ADD:
            _plain(_options(operator, tflite.AddOptions()))
            self._node("Add", [_name(number) for number in inputs], output)
        elif kind == operation.MAX_POOL_2D:
            self._pool(inputs[0], output, _options(operator, tflite.Pool2DOptions()))
        elif kind == operation.PAD:
            self._pad(inputs, output)
        elif kind == operation.RESHAPE and self._shape(inputs[0])[1:3] == (1, 1):
            self._node("Flatten", [_name(inputs[0])], output)
        else:
            raise ValueError(f"operation {kind}")

    def _convolve(self, inputs: list[int], output: int, options: Any, *, depthwise: bool) -> None:
        """Weights come as (out, height, width, in), depthwise ones as (1, height, width, out)."""
        _plain(options)
        image, weights, bias = inputs
        kernel = self._constant(weights)
        if depthwise and options.DepthMultiplier() != 1:
            raise ValueError("a depth multiplier")
        if (options.DilationHFactor(), options.DilationWFactor()) != (1, 1):
            raise ValueError("a dilated convolution")
        order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        self._constants[_name(weights)] = kernel.transpose(order)
        self._constants[_name(bias)] = self._constant(bias)
        self._node(
            "Conv",
            [_name(image), _name(weights), _name(bias)],
            output,
            group=kernel.shape[3] if depthwise else 1,
            **self._window(image, output, kernel.shape[1:3], options),
        )

    def _pool(self, image: int, output: int, options: Any) -> None:
        _plain(options)
        size = (options.FilterHeight(), options.FilterWidth())
        self._node("MaxPool", [_name(image)], output, kernel_shape=size, **self._window(image, output, size, options))

    def _window(self, image: int, output: int, size: tuple[int, ...], options: Any) -> dict[str, list[int]]:
        """Return strides and pads: "same" padding is what the last window lacks, an odd pixel below and right."""
        strides = [options.StrideH(), options.StrideW()]
        before, after = [0, 0], [0, 0]
        if options.Padding() == tflite.Padding.SAME:
            sizes = zip(self._shape(image)[1:3], self._shape(output)[1:3], size, strides, strict=True)
            lacks = [max((last - 1) * step + extent - length, 0) for length, last, extent, step in sizes]
            before, after = [lack // 2 for lack in lacks], [lack - lack // 2 for lack in lacks]
        return {"strides": strides, "pads": before + after}

    def _prelu(self, inputs: list[int], output: int) -> None:
        """Write PReLU as relu(x)(1 - a) + ax, as `vision.folding` does: there are quick kernels for these."""
        x, y = _name(inputs[0]), _name(output)
        slope = self._constant(inputs[1]).reshape(1, -1, 1, 1).astype(np.float32)
        self._constants[f"{y}_slope"], self._constants[f"{y}_rest"] = slope, np.float32(1) - slope
        self._nodes += [
            helper.make_node("Relu", [x], [f"{y}_positive"]),
            helper.make_node("Mul", [f"{y}_positive", f"{y}_rest"], [f"{y}_kept"]),
            helper.make_node("Mul", [x, f"{y}_slope"], [f"{y}_leak"]),
            helper.make_node("Add", [f"{y}_kept", f"{y}_leak"], [y]),
        ]

    def _pad(self, inputs: list[int], output: int) -> None:
        amounts = self._constant(inputs[1])[[0, 3, 1, 2]].T.reshape(-1).astype(np.int64)
        self._constants[f"{_name(output)}_amounts"] = amounts
        self._node("Pad", [_name(inputs[0]), f"{_name(output)}_amounts"], output)

    def _node(self, kind: str, inputs: list[str], output: int, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [_name(output)], **attributes))

    def _shape(self, number: int) -> tuple[int, ...]:
        return tuple(int(size) for size in self._graph.Tensors(number).ShapeAsNumpy())

    def _constant(self, number: int) -> npt.NDArray[Any]:
        tensor = self._graph.Tensors(number)
        data = self._file.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), _DTYPES[tensor.Type()]).reshape(self._shape(number))


def _options(operator: Any, options: Any) -> Any:
    table = operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


def _plain(options: Any) -> None:
    if options.FusedActivationFunction() != tflite.ActivationFunctionType.NONE:
        raise ValueError("a fused activation")


def _name(number: int) -> str:
    return f"t{number}"
