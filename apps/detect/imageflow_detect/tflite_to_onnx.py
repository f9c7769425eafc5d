"""A TensorFlow Lite graph as an ONNX one.

It knows what a convolutional detector is made of: CONV_2D, DEPTHWISE_CONV_2D, ADD, RESHAPE, CONCATENATION, and weights
kept in half precision (DEQUANTIZE). TensorFlow Lite has channels last, ONNX first: the graph that comes out takes
`[N, 3, height, width]`, stays so through the convolutions, and is turned where a tensor is reshaped. Sources: the
schema of TensorFlow Lite (tensorflow/compiler/mlir/lite/schema/schema.fbs) and ONNX's operators
(https://onnx.ai/onnx/operators).

It needs the packages onnx and tflite: `imageflow-detect[adding]`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

from imageflow_detect.manifest import ModelInvalid

OPSET: Final = 17
_IR_VERSION: Final = 8
_SAME: Final = 0
_NONE, _RELU6 = 0, 3
_DTYPES: Final = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}

Constant = npt.NDArray[Any]


class Converted:
    """The nodes and weights of a converted graph, to which more may be added before it is a model."""

    def __init__(self, data: bytes, *, input_name: str) -> None:
        """Converts the graph in these bytes. Raises ModelInvalid for an operator, or a use of one, it does not know."""
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._graph = self._model.Subgraphs(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._constants = self._read_constants()
        self._names: dict[int, str] = {self._graph.Inputs(0): input_name}
        self._channels_first = {self._graph.Inputs(0)}
        for number in range(self._graph.OperatorsLength()):
            self._convert(self._graph.Operators(number))

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height."""
        _, height, width, _ = self._shape(self._graph.Inputs(0))
        return width, height

    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The graph's outputs, by the name that each has in `nodes`, with its shape for one image."""
        numbers = [self._graph.Outputs(number) for number in range(self._graph.OutputsLength())]
        return {self._names[number]: self._shape(number) for number in numbers}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One more node; answers the name of what it gives."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, value: Constant) -> str:
        """One more constant; answers its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _read_constants(self) -> dict[int, Constant]:
        numbers = range(self._graph.TensorsLength())
        return {number: value for number in numbers if (value := self._constant(number)) is not None}

    def _constant(self, number: int) -> Constant | None:
        tensor = self._graph.Tensors(number)
        buffer = self._model.Buffers(tensor.Buffer())
        if buffer.DataLength() == 0:
            return None
        if tensor.Type() not in _DTYPES:
            raise ModelInvalid(f"the TensorFlow Lite file has weights of a type that is not read: {tensor.Type()}")
        return np.frombuffer(buffer.DataAsNumpy().tobytes(), _DTYPES[tensor.Type()]).reshape(self._shape(number))

    def _shape(self, number: int) -> tuple[int, ...]:
        tensor = self._graph.Tensors(number)
        return tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()

    def _convert(self, operator: Any) -> None:
        opcode = self._model.OperatorCodes(operator.OpcodeIndex())
        code = max(opcode.BuiltinCode(), opcode.DeprecatedBuiltinCode())
        inputs, output = [int(each) for each in operator.InputsAsNumpy()], int(operator.Outputs(0))
        match code:
            case tflite.BuiltinOperator.DEQUANTIZE if inputs[0] in self._constants:
                self._constants[output] = self._constants[inputs[0]].astype(np.float32)
            case tflite.BuiltinOperator.CONV_2D:
                self._convolve(operator, inputs, output, tflite.Conv2DOptions(), depthwise=False)
            case tflite.BuiltinOperator.DEPTHWISE_CONV_2D:
                self._convolve(operator, inputs, output, tflite.DepthwiseConv2DOptions(), depthwise=True)
            case tflite.BuiltinOperator.ADD:
                self._sum(operator, inputs, output)
            case tflite.BuiltinOperator.RESHAPE:
                self._reshape(inputs[0], output)
            case tflite.BuiltinOperator.CONCATENATION:
                self._names[output] = self.add("Concat", *[self._names[each] for each in inputs], axis=1)
            case _:
                raise ModelInvalid(f"the TensorFlow Lite file has an operator that is not read: number {code}")

    def _convolve(self, operator: Any, inputs: list[int], output: int, options: Any, *, depthwise: bool) -> None:
        options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        kernel = self._constants[inputs[1]]
        kernel = kernel.transpose(3, 0, 1, 2) if depthwise else kernel.transpose(0, 3, 1, 2)
        strides = (options.StrideH(), options.StrideW())
        dilations = (options.DilationHFactor(), options.DilationWFactor())
        sides = self._shape(inputs[0])[1:3]
        convolved = self.add(
            "Conv",
            self._names[inputs[0]],
            self.weight(kernel),
            self.weight(self._constants[inputs[2]]),
            strides=strides,
            dilations=dilations,
            group=kernel.shape[0] if depthwise else 1,
            pads=_pads(sides, kernel.shape[2:], strides, dilations) if options.Padding() == _SAME else (0, 0, 0, 0),
        )
        self._finish(convolved, output, options.FusedActivationFunction())

    def _sum(self, operator: Any, inputs: list[int], output: int) -> None:
        options = tflite.AddOptions()
        options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        added = self.add("Add", *[self._names[each] for each in inputs])
        self._finish(added, output, options.FusedActivationFunction())

    def _finish(self, tensor: str, output: int, activation: int) -> None:
        if activation not in (_NONE, _RELU6):
            raise ModelInvalid(f"the TensorFlow Lite file has an activation that is not read: number {activation}")
        if activation == _RELU6:
            tensor = self.add(
                "Clip", tensor, self.weight(np.array(0, np.float32)), self.weight(np.array(6, np.float32))
            )
        self._names[output] = tensor
        self._channels_first.add(output)

    def _reshape(self, number: int, output: int) -> None:
        """To [N, rows, last]; the batch stays open."""
        tensor, shape = self._names[number], self._shape(output)
        if number in self._channels_first:
            tensor = self.add("Transpose", tensor, perm=[0, 2, 3, 1])
        self._names[output] = self.add("Reshape", tensor, self.weight(np.array([0, *shape[1:-1], shape[-1]], np.int64)))


def as_model(
    converted: Converted, *, name: str, input_name: str, outputs: dict[str, tuple[str, tuple[int, ...]]]
) -> onnx.ModelProto:
    """The model with these outputs: by their names, the tensor that each is and its shape for one image. The batch is
    open."""
    width, height = converted.input_size
    nodes = [*converted.nodes, *(helper.make_node("Identity", [each], [out]) for out, (each, _) in outputs.items())]
    answers = [
        helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", *shape[1:]]) for out, (_, shape) in outputs.items()
    ]
    image = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", 3, height, width])
    graph = helper.make_graph(nodes, name, [image], answers, converted.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _pads(
    sides: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, int], dilations: tuple[int, int]
) -> list[int]:
    """TensorFlow's SAME: as many outputs as strides fit in, and the odd zero behind."""
    needed = [
        max(0, (-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side)
        for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True)
    ]
    before = [total // 2 for total in needed]
    return before + [total - each for total, each in zip(needed, before, strict=True)]
