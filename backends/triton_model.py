"""Serves an ONNX file in Triton's Python backend; Triton's own process for a model instance imports this file alone
(https://github.com/triton-inference-server/python_backend)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    """One instance of one version of a model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """The configuration in the repository is whole."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        file = Path(args["model_repository"], args["model_version"], config["default_model_filename"] or "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._input = config["input"][0]["name"]
        self._outputs = [output["name"] for output in config["output"]]
        self._batches = config["max_batch_size"] > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request; where the model has a batch dimension, of one run for all."""
        tensors = [backend.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        if self._batches:
            return self._responses(np.concatenate(tensors), [len(tensor) for tensor in tensors])
        return [response for tensor in tensors for response in self._responses(tensor, [len(tensor)])]

    def _responses(self, tensor: Any, sizes: list[int]) -> list[Any]:
        arrays = self._session.run(self._outputs, {self._input: tensor})
        if len(sizes) == 1:
            return [self._response(arrays)]
        ends = np.cumsum(sizes)
        return [
            self._response([np.ascontiguousarray(array[end - size : end]) for array in arrays])
            for size, end in zip(sizes, ends, strict=True)
        ]

    def _response(self, arrays: list[Any]) -> Any:
        tensors = [backend.Tensor(name, array) for name, array in zip(self._outputs, arrays, strict=True)]
        return backend.InferenceResponse(tensors)
