"""Rewrite the zoo's block-quantised ONNX files into plain fp32 models of a fixed input shape, the same bytes each time.

ONNX Runtime cannot run the files as they come (it fails on their block-wise DequantizeLinear), and has no quick kernel
for PReLU. `onnx` is imported only here: the vision process never loads it.
"""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

_IR_VERSION = 10
_Constants = dict[str, npt.NDArray[np.generic]]


def fold(source: bytes, input_shape: tuple[int, int, int, int]) -> bytes:
    """Return the model with its weights in fp32, its PReLU rewritten and its input of exactly that shape."""
    graph = onnx.load_from_string(source).graph
    constants: _Constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            constants[node.output[0]] = _dequantise(node, constants)
        elif node.op_type == "Reshape" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]].reshape(constants[node.input[1]].tolist())
        elif node.op_type == "PRelu":
            nodes += _prelu(node, constants)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    (image,) = (value.name for value in graph.input if value.name in used - constants.keys())
    folded = helper.make_graph(
        nodes,
        "folded",
        [helper.make_tensor_value_info(image, onnx.TensorProto.FLOAT, input_shape)],
        [_any_shape(value) for value in graph.output],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    opset = [helper.make_opsetid("", 21)]
    model = helper.make_model(folded, opset_imports=opset, ir_version=_IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


def _any_shape(output: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Return the output with its rank only: its sizes follow from the input's."""
    rank = len(output.type.tensor_type.shape.dim)
    return helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, [None] * rank)


def _dequantise(node: onnx.NodeProto, constants: _Constants) -> npt.NDArray[np.float32]:
    """Return (quantised - zero point) x scale, each zero point and scale serving `block_size` elements of `axis`."""
    quantised, scale, zero_point = (constants[name] for name in node.input)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axis, block_size = attributes["axis"], attributes["block_size"]

    def spread(blocks: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        return blocks.astype(np.float32).repeat(block_size, axis).take(range(quantised.shape[axis]), axis)

    return (quantised.astype(np.float32) - spread(zero_point)) * spread(scale)


def _prelu(node: onnx.NodeProto, constants: _Constants) -> list[onnx.NodeProto]:
    """Write PReLU as relu(x)(1 - a) + ax; max(x, ax) would be wrong, since some slopes a exceed 1."""
    x, slope = node.input
    y = node.output[0]
    constants[f"{slope}_complement"] = np.float32(1) - constants[slope].astype(np.float32)
    return [
        helper.make_node("Relu", [x], [f"{y}_positive"]),
        helper.make_node("Mul", [f"{y}_positive", f"{slope}_complement"], [f"{y}_kept"]),
        helper.make_node("Mul", [x, slope], [f"{y}_leak"]),
        helper.make_node("Add", [f"{y}_kept", f"{y}_leak"], [y]),
    ]
