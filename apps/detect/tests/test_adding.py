from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from skimage import data

from imageflow_common.errors import AlreadyExists, InvalidArgument
from imageflow_common.pixels import Pixels
from imageflow_detect.adding import Added, Told, add_model, remove_model
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.loading import MAX_MODEL_BYTES
from imageflow_detect.manifest import ModelInvalid, Size
from imageflow_detect.models import ModelNotFound, ModelRepository
from imageflow_detect.toy_models import SIDE, columns, fixed_output_model, several_outputs_model

from .networks import LABELS, network

PHOTOGRAPH = Pixels(data.chelsea())


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


def add(repository: ModelRepository, file: Path, **changes: Any) -> Added:
    options = {"name": "toy", "labels": ["cat", "dog"], "licence": "Apache-2.0", "source": "a test"}
    return add_model(repository, file, **({"photograph": PHOTOGRAPH} | options | changes))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_a_good_model_is_added_whole(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(columns((32, 32, 16, 8, 1, 0.75)), tmp_path / "good.onnx")
    added = add(repository, file)
    model = added.model
    assert model == repository.resolve("toy")
    assert model.file.read_bytes() == file.read_bytes()
    assert model.manifest.input_shape == (1, 3, SIDE, SIDE)
    assert [(each.label, each.confidence) for each in added.found] == [("dog", 0.75)]
    assert added.remarks == (
        "layout yolo_v8, guessed: 'output0' is [1, 6, 100]: 4 + 2 classes, 100 anchors",
        "input 64×64, RGB, values 0..1, letterboxed on 114, 114, 114 (the last three are no part of a file)",
    )
    assert sorted(each.name for each in repository.directory.iterdir()) == ["toy"]
    config = (repository.directory / "toy" / "config.pbtxt").read_text()
    assert 'name: "images" data_type: TYPE_FP32 dims: [1, 3, 64, 64]' in config
    assert 'name: "output0" data_type: TYPE_FP32 dims: [1, 6, 100]' in config
    assert "max_batch_size: 0" in config


@pytest.mark.parametrize("layout", ["yolo_v8", "yolo_v5", "end_to_end", "ssd"])
def test_each_layout_is_guessed_from_the_shapes(layout: str, repository: ModelRepository, tmp_path: Path) -> None:
    expected = network(layout, tmp_path / "networks").output
    added = add(repository, tmp_path / "networks" / layout / "1" / "model.onnx", labels=LABELS)
    assert added.model.manifest.output == expected
    assert added.remarks[0].startswith(f"layout {layout}, guessed: ")


@pytest.mark.parametrize(
    ("shape", "labels", "layout"),
    [
        ((1, 252, 6), 1, "yolo_v5"),  # 3 · (8² + 4² + 2²) anchors, those of 64×64
        ((1, 300, 6), 1, "end_to_end"),
        ((1, 300, 6), 80, "end_to_end"),
        ((1, 6, 8400), 2, "yolo_v8"),
        ((1, 84, 8400), 80, "yolo_v8"),
        ((1, 25200, 85), 80, "yolo_v5"),
        ((1, 100, 7), 2, "yolo_v5"),
    ],
)
def test_a_layout_is_told_from_its_like(
    shape: tuple[int, ...], labels: int, layout: str, repository: ModelRepository, tmp_path: Path
) -> None:
    file = fixed_output_model(zeros(*shape), tmp_path / "model.onnx")
    added = add(repository, file, labels=[f"class {number}" for number in range(labels)])
    assert added.model.manifest.output.layout == layout


def test_what_is_told_counts_before_what_is_guessed(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(zeros(1, 300, 6), tmp_path / "model.onnx", input_shape=(1, 3, "h", "w"))
    told = Told("yolo_v5", Size(width=96, height=64), "-1..1", "bgr", "stretch")
    added = add(repository, file, labels=["cat"], told=told)
    manifest = added.model.manifest
    assert manifest.output.layout == "yolo_v5"
    assert manifest.input_shape == (1, 3, 64, 96)
    assert (manifest.input.colour_order, manifest.input.fit) == ("bgr", "stretch")
    assert manifest.input.normalisation.mean == (1.0, 1.0, 1.0)
    assert added.remarks == (
        "layout yolo_v5, as told",
        "input 96×64, BGR, values -1..1, stretched (the last three are no part of a file)",
    )
    with pytest.raises(ModelInvalid, match="not boxes, logits of 1 classes, and anchors"):
        add(repository, file, name="other", labels=["cat"], told=Told("ssd"))
    with pytest.raises(InvalidArgument, match="cannot be 32×32"):
        add(repository, fixed_output_model(columns(), file), name="other", told=Told(size=Size(width=32, height=32)))


def test_a_model_with_open_sizes_gets_the_usual_ones(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(columns(), tmp_path / "open.onnx", input_shape=("n", 3, "h", "w"), batched=True)
    assert add(repository, file).model.manifest.input_shape == (1, 3, 640, 640)
    config = (repository.directory / "toy" / "config.pbtxt").read_text()
    assert "max_batch_size: 8" in config
    assert "dims: [3, 640, 640]" in config
    assert "dims: [6, 100]" in config


def test_a_model_of_bytes_is_given_bytes(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(columns((32, 32, 8, 8, 0, 0.9)), tmp_path / "bytes.onnx", input_type=TensorProto.UINT8)
    added = add(repository, file)
    assert added.model.manifest.input.type == "uint8"
    assert len(added.found) == 1
    assert "data_type: TYPE_UINT8" in (repository.directory / "toy" / "config.pbtxt").read_text()


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


def test_a_version_or_a_model_is_removed(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(columns(), tmp_path / "good.onnx")
    for version in (1, 2):
        add(repository, file, version=version)
    remove_model(repository, "toy", "2")
    assert repository.versions("toy") == (1,)
    with pytest.raises(ModelNotFound, match="there are: 1"):
        remove_model(repository, "toy", "2")
    remove_model(repository, "toy")
    assert list(repository.directory.iterdir()) == []
    with pytest.raises(ModelNotFound):
        remove_model(repository, "toy")


@pytest.mark.parametrize(
    ("output", "labels", "says"),
    [
        (zeros(1, 9, 100), 2, "5 classes, but 2 labels"),
        (zeros(1, 84, 8400), 79, "oriented boxes .*or has 80 classes where 79 labels were given"),
        (zeros(1, 25200, 85), 3, "as YOLOv5, that is 80 classes, but 3 labels"),
        (zeros(1, 56, 100), 1, "a pose"),
        (zeros(1, 300, 84), 80, "transposed, or that of RT-DETR"),
        (zeros(1, 1000), 2, "classifier"),
        (zeros(1, 2, 8, 8), 2, "three dimensions"),
    ],
)
def test_another_kind_of_output_is_refused(
    repository: ModelRepository, tmp_path: Path, output: np.ndarray, labels: int, says: str
) -> None:
    file = fixed_output_model(output, tmp_path / "bad.onnx")
    with pytest.raises(ModelInvalid, match=says) as caught:
        add(repository, file, labels=[f"class {number}" for number in range(labels)])
    assert "seen: 'output0' tensor(float) [1, " in caught.value.message
    assert "accepted are detection exports" in caught.value.message
    assert repository.names() == ()


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(1, 38, 100), (1, 32, 16, 16)], "segmentation"),
        ([(1, 300, 38), (1, 32, 16, 16)], "segmentation"),
        ([(1, 100, 4), (1, 100, 3)], "DETR"),
        ([(1, 100, 4), (1, 100), (1, 100), (1,)], "it has 4 outputs"),
        ([(1, 100, 4), (1, 100, 9), (100, 4)], "logits of 2 classes"),
    ],
)
def test_several_outputs_that_are_no_ssd_are_refused(
    repository: ModelRepository, tmp_path: Path, shapes: list[tuple[int, ...]], says: str
) -> None:
    file = several_outputs_model(shapes, tmp_path / "bad.onnx")
    with pytest.raises(ModelInvalid, match=says):
        add(repository, file)


@pytest.mark.parametrize(
    ("shape", "kind", "says"),
    [
        ((1, SIDE, SIDE, 3), TensorProto.FLOAT, "channels last"),
        ((1, 1, SIDE, SIDE), TensorProto.FLOAT, "not one RGB image"),
        ((4, 3, SIDE, SIDE), TensorProto.FLOAT, "not one RGB image"),
        ((1, 3), TensorProto.FLOAT, "not one RGB image"),
        ((1, 3, SIDE, SIDE), TensorProto.FLOAT16, "neither float32 nor uint8"),
        ((1, 3, SIDE, SIDE), TensorProto.INT8, "neither float32 nor uint8"),
    ],
)
def test_another_kind_of_input_is_refused(
    repository: ModelRepository, tmp_path: Path, shape: tuple[int, ...], kind: int, says: str
) -> None:
    file = fixed_output_model(columns(), tmp_path / "bad.onnx", input_shape=shape, input_type=kind)
    with pytest.raises(ModelInvalid, match=says):
        add(repository, file)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (columns((32, 32, 8, 8, 0, 7.5)), "scores go from 0 to 7.5; those of yolo_v8 are 0 to 1"),
        (columns((32, 32, 8, 8, 0, 0.9), (9, 9, 8, 8, 1, -3)), "scores go from -3 to 0.9"),
        (columns((0.5, 0.5, 0.2, 0.2, 0, 0.9)), "parts of the picture, not pixels"),
        (columns((3200, 32, 8, 8, 0, 0.9)), "as far out as 3204 pixels, of 64"),
    ],
)
def test_numbers_that_the_layout_cannot_have_are_refused(
    repository: ModelRepository, tmp_path: Path, output: np.ndarray, says: str
) -> None:
    file = fixed_output_model(output, tmp_path / "bad.onnx")
    with pytest.raises(ModelInvalid, match=f"on a photograph.*{says}"):
        add(repository, file)
    assert not repository.directory.exists()


def test_a_model_that_answers_no_numbers_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(np.full((1, 6, 100), np.nan, np.float32), tmp_path / "bad.onnx")
    with pytest.raises(ModelInvalid):
        add(repository, file)
    assert not repository.directory.exists()


def test_a_class_that_has_no_label_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    output = zeros(1, 300, 6)
    output[0, 0] = 10, 10, 20, 20, 0.9, 2
    file = fixed_output_model(output, tmp_path / "bad.onnx")
    with pytest.raises(ModelInvalid, match="answers class 2; its manifest has 2 labels, from 0"):
        add(repository, file)


def changed(file: Path, change: Any) -> Path:
    model = onnx.load(str(file), load_external_data=False)
    change(model)
    file.write_bytes(model.SerializeToString())
    return file


def weights_elsewhere(location: str) -> Any:
    def change(model: onnx.ModelProto) -> None:
        (tensor,) = [each for each in model.graph.initializer if each.name == "fixed"]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location

    return change


def set_opset(version: int) -> Any:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def set_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Teleport"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_opset(99), r"needs opset 99; ONNX Runtime here has those up to \d+: export with opset=17"),
        (set_operator, "needs the operator Teleport"),
        (lambda model: setattr(model, "ir_version", 99), r"IR version 99; ONNX Runtime here reads those up to \d+"),
        (weights_elsewhere("../secret.bin"), "in another file, outside the model's folder"),
        (weights_elsewhere("part/../../secret.bin"), "in another file, outside the model's folder"),
        (weights_elsewhere("{folder}/secret.bin"), "in another file, outside the model's folder"),
        (weights_elsewhere("link.bin"), "in another file, outside the model's folder"),
        (weights_elsewhere("missing.bin"), "in another file, which is not beside it"),
    ],
)
def test_a_file_that_cannot_be_loaded_says_why(
    repository: ModelRepository, tmp_path: Path, change: Any, says: str
) -> None:
    folder = tmp_path / "export"
    (folder / "part").mkdir(parents=True)
    for secret in (tmp_path / "secret.bin", tmp_path / "export.bin"):
        secret.write_bytes(columns().tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    file = changed(fixed_output_model(columns(), folder / "bad.onnx"), change)
    file = changed(file, lambda model: _fill_in(model, tmp_path))
    with pytest.raises(ModelInvalid, match=says) as caught:
        add(repository, file)
    assert str(tmp_path) not in caught.value.message
    assert not repository.directory.exists()


def _fill_in(model: onnx.ModelProto, folder: Path) -> None:
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entry.value.replace("{folder}", str(folder))


def test_weights_beside_the_file_come_along(repository: ModelRepository, tmp_path: Path) -> None:
    output = columns((32, 32, 8, 8, 0, 0.9))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "part.bin").write_bytes(output.tobytes())
    file = changed(fixed_output_model(output, tmp_path / "good.onnx"), weights_elsewhere("weights/part.bin"))
    model = add(repository, file).model
    (tmp_path / "weights" / "part.bin").unlink()
    blank = np.zeros((1, 3, SIDE, SIDE), np.float32)
    np.testing.assert_array_equal(OnnxBackend().infer(model, blank)[0], output)


def test_a_file_cut_short_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    file = fixed_output_model(columns(), tmp_path / "bad.onnx")
    whole = file.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(ModelInvalid, match=r"bad\.onnx cannot be used: the model's file is cut short"):
            add(repository, file)


def test_a_file_that_is_no_model_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\0" * 100)
    with pytest.raises(ModelInvalid, match=r"bad\.onnx cannot be used: .*no ONNX model at all"):
        add(repository, tmp_path / "bad.onnx")
    with pytest.raises(InvalidArgument, match=r"there is no file none\.onnx"):
        add(repository, tmp_path / "none.onnx")


def test_a_file_larger_than_an_onnx_file_can_be_is_refused_unread(repository: ModelRepository, tmp_path: Path) -> None:
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(MAX_MODEL_BYTES + 1)
    with pytest.raises(ModelInvalid, match=r"has 2\.1 GB; at most 2\.1 GB: keep its weights as external data"):
        add(repository, tmp_path / "huge.onnx")


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
