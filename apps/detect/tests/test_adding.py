from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from imageflow_common.errors import AlreadyExists, InvalidArgument
from imageflow_detect.adding import add_model
from imageflow_detect.manifest import ModelInvalid
from imageflow_detect.models import Model, ModelRepository
from imageflow_detect.toy_models import SIDE, columns, fixed_output_model, several_outputs_model


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


def add(repository: ModelRepository, file: Path, **changes: Any) -> Model:
    options = {"name": "toy", "labels": ["cat", "dog"], "licence": "Apache-2.0", "source": "a test"}
    return add_model(repository, file, **(options | changes))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_a_good_model_is_added_whole(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(columns(), tmp_path / "good.onnx")
    model = add(repository, file)
    assert model == repository.resolve("toy")
    assert model.file.read_bytes() == file.read_bytes()
    assert model.manifest.input_shape == (1, 3, SIDE, SIDE)
    assert sorted(each.name for each in repository.directory.iterdir()) == ["toy"]
    config = (repository.directory / "toy" / "config.pbtxt").read_text()
    assert 'name: "images" data_type: TYPE_FP32 dims: [1, 3, 64, 64]' in config
    assert 'name: "output0" data_type: TYPE_FP32 dims: [1, 6, 100]' in config
    assert "max_batch_size: 0" in config


def test_a_model_with_open_sizes_gets_the_usual_ones(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(columns(), tmp_path / "open.onnx", input_shape=("n", 3, "h", "w"), batched=True)
    assert add(repository, file).manifest.input_shape == (1, 3, 640, 640)
    config = (repository.directory / "toy" / "config.pbtxt").read_text()
    assert "max_batch_size: 8" in config
    assert "dims: [3, 640, 640]" in config
    assert "dims: [6, 100]" in config


def test_a_further_version_becomes_the_newest(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(columns(), tmp_path / "good.onnx")
    add(repository, file)
    add(repository, file, version=2)
    assert repository.versions("toy") == (1, 2)
    with pytest.raises(AlreadyExists):
        add(repository, file, version=2)
    with pytest.raises(InvalidArgument, match="other labels"):
        add(repository, file, version=3, labels=["cow", "hen"])
    assert sorted(each.name for each in repository.directory.iterdir()) == ["toy"]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (zeros(1, 300, 6), r"end-to-end export.*output0.*\[1, 300, 6\]"),
        (zeros(1, 9, 100), "5 classes, but 2 labels"),
        (zeros(1, 100, 6), "end-to-end|transposed"),
        (zeros(1, 100, 7), "YOLOv5"),
        (zeros(1, 100, 9), "transposed"),
        (zeros(1, 1000), "classifier"),
        (zeros(1, 2, 8, 8), "three dimensions"),
    ],
)
def test_another_kind_of_output_is_refused(
    repository: ModelRepository, tmp_path: Path, output: np.ndarray, says: str
) -> None:
    file = fixed_output_model(output, tmp_path / "bad.onnx")
    with pytest.raises(ModelInvalid, match=says) as caught:
        add(repository, file)
    assert "accepted is a YOLOv8 or YOLO11 detection export" in caught.value.message
    assert repository.names() == ()


@pytest.mark.parametrize(
    ("shape", "kind", "says"),
    [
        ((1, SIDE, SIDE, 3), TensorProto.FLOAT, "channels last"),
        ((1, 1, SIDE, SIDE), TensorProto.FLOAT, "not one RGB image"),
        ((4, 3, SIDE, SIDE), TensorProto.FLOAT, "not one RGB image"),
        ((1, 3), TensorProto.FLOAT, "not one RGB image"),
        ((1, 3, SIDE, SIDE), TensorProto.FLOAT16, "not float32"),
        ((1, 3, SIDE, SIDE), TensorProto.UINT8, "not float32"),
    ],
)
def test_another_kind_of_input_is_refused(
    repository: ModelRepository, tmp_path: Path, shape: tuple[int, ...], kind: int, says: str
) -> None:
    file = fixed_output_model(columns(), tmp_path / "bad.onnx", input_shape=shape, input_type=kind)
    with pytest.raises(ModelInvalid, match=says):
        add(repository, file)


def test_a_segmentation_export_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    file = several_outputs_model([(1, 38, 100), (1, 32, 16, 16)], tmp_path / "seg.onnx")
    with pytest.raises(ModelInvalid, match="segmentation"):
        add(repository, file)


def test_a_file_that_is_no_model_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\0" * 100)
    with pytest.raises(ModelInvalid, match=r"bad\.onnx is not an ONNX model"):
        add(repository, tmp_path / "bad.onnx")
    with pytest.raises(InvalidArgument, match=r"there is no file none\.onnx"):
        add(repository, tmp_path / "none.onnx")


@pytest.mark.parametrize(
    "changes",
    [{"name": "../toy"}, {"name": ".toy"}, {"version": 0}, {"labels": ["cat", "cat"]}, {"licence": ""}],
)
def test_a_bad_request_leaves_nothing_behind(
    repository: ModelRepository, tmp_path: Path, changes: dict[str, Any]
) -> None:
    file = fixed_output_model(columns(), tmp_path / "good.onnx")
    with pytest.raises(InvalidArgument):
        add(repository, file, **changes)
    assert not repository.directory.exists()
