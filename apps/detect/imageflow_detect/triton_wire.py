"""What Triton is asked and what it answers, as messages of its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from imageflow_common.errors import ImageFlowError
from imageflow_detect.manifest import Manifest
from imageflow_detect.models import Model
from imageflow_detect.tensors import Array, Tensor, TensorInfo
from imageflow_detect.triton_connection import MESSAGES
from imageflow_detect.triton_memory import Region

_ONNX_TYPES: Final[Mapping[str, str]] = {"FP32": "tensor(float)", "UINT8": "tensor(uint8)"}
_TRITON_TYPES: Final[Mapping[str, str]] = {"float32": "FP32", "uint8": "UINT8"}
_ALIGNED_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a region the input and the outputs lie; an output whose size is not known beforehand is not there."""

    input_bytes: int
    outputs: Mapping[str, tuple[int, int]]
    size_bytes: int

    @classmethod
    def of(cls, input_bytes: int, outputs: Mapping[str, int]) -> Layout:
        """`outputs`: the size in bytes of each."""
        places, end = {}, _aligned(input_bytes)
        for name, size in outputs.items():
            places[name] = (end, size)
            end += _aligned(size)
        return cls(input_bytes, places, end)


def infer_request(model: Model, tensor: Tensor, region: Region | None, layout: Layout) -> Any:
    """`ModelInferRequest`: in the region, which then holds the tensor, or inline."""
    manifest = model.manifest
    request = MESSAGES.ModelInferRequest(model_name=model.name, model_version=str(model.version))
    image = request.inputs.add(
        name=manifest.input.name, datatype=_TRITON_TYPES[manifest.input.type], shape=tensor.shape
    )
    if region is None:
        request.raw_input_contents.append(tensor.tobytes())
    else:
        region.bytes[: tensor.nbytes] = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
        _place(image, region, 0, tensor.nbytes)
    for name in manifest.output_names:
        output = request.outputs.add(name=name)
        if region is not None and name in layout.outputs:
            _place(output, region, *layout.outputs[name])
    return request


def outputs_of(response: Any, manifest: Manifest, region: Region | None, layout: Layout) -> tuple[Array, ...]:
    """The arrays of a `ModelInferResponse`, in the manifest's order, for the caller to keep. Raises ImageFlowError for
    an answer that does not hold what it says."""
    arrays = {}
    for number, output in enumerate(response.outputs):
        place = layout.outputs.get(output.name) if region is not None else None
        if region is None or place is None:
            inline = response.raw_output_contents[number : number + 1]  # empty for what lies in the region
            arrays[output.name] = _array(output, np.frombuffer(inline[0] if inline else b"", np.uint8))
        else:
            offset, size = place
            arrays[output.name] = _array(output, region.bytes[offset : offset + size]).copy()
    missing = [name for name in manifest.output_names if name not in arrays]
    if missing:
        raise _broken(f"no output '{missing[0]}'")
    return tuple(arrays[name] for name in manifest.output_names)


def tensor_infos(tensors: Sequence[Any]) -> tuple[TensorInfo, ...]:
    """Triton's metadata in terms of ONNX; a type that no manifest names keeps its name."""
    return tuple(
        TensorInfo(
            each.name,
            _ONNX_TYPES.get(each.datatype, each.datatype),
            tuple(size if size > 0 else None for size in each.shape),
        )
        for each in tensors
    )


def _place(tensor: Any, region: Region, offset: int, size_bytes: int) -> None:
    tensor.parameters["shared_memory_region"].string_param = region.name
    tensor.parameters["shared_memory_byte_size"].int64_param = size_bytes
    if offset:
        tensor.parameters["shared_memory_offset"].int64_param = offset


def _array(output: Any, data: Any) -> Array:
    size = prod(output.shape) * np.dtype(np.float32).itemsize
    if output.datatype != "FP32" or min(output.shape, default=0) < 0 or len(data) != size:
        raise _broken(f"{len(data)} bytes of {output.datatype} for '{output.name}' {list(output.shape)}")
    array: Array = data.view(np.float32).reshape(tuple(output.shape))
    return array


def _broken(what: str) -> ImageFlowError:
    return ImageFlowError(f"Triton's answer does not hold what it says: {what}", reason="INFERENCE_FAILED")


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
