"""Models that cannot be used, put into the repository while everything runs, and images that no network was made for.
Rows of docs/errors.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

from imageflow.v1 import detect_pb2
from imageflow_detect.toy_models import columns, fixed_output_model, manifest_of, place
from imageflow_detect.toy_repository import put_dark_model

from . import pictures
from .callers import Rpc

if TYPE_CHECKING:
    from .callers import Callers
    from .error_table import Row
    from .product import Product

pytestmark = pytest.mark.usefixtures("then_it_still_serves")

Change = Callable[[onnx.ModelProto], object]


@pytest.fixture
def models(product: Product) -> Iterator[Path]:
    """The repository of what runs; what a test puts there is gone after it."""
    before = set(product.models.iterdir())
    yield product.models
    for folder in set(product.models.iterdir()) - before:
        shutil.rmtree(folder)


def changed(models: Path, change: Change) -> None:
    """A model `bad`, changed."""
    place(models, "bad", columns((32, 32, 8, 8, 0, 0.9)), manifest=manifest_of("bad"))
    file = models / "bad" / "1" / "model.onnx"
    model = onnx.load(str(file))
    change(model)
    file.write_bytes(model.SerializeToString())


def refused(callers: Callers, row: Row, *words: str, model: str = "bad") -> None:
    """Over both ways in, and again: a model that could not be loaded is tried anew."""
    for _ in range(2):
        row.refuses(callers.process_http(pictures.photo(), component="detect", set=f"modelName={model}"), *words)
    row.refuses(lambda: callers.process_grpc(pictures.photo(), component="detect", set=[f"modelName={model}"]), *words)


def test_a_model_cut_short(callers: Callers, row: Row, models: Path) -> None:
    place(models, "bad", columns(), manifest=manifest_of("bad"))
    file = models / "bad" / "1" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-100])
    refused(callers, row, "the model's file is cut short")


def test_a_model_that_is_no_detector(callers: Callers, row: Row, models: Path) -> None:
    place(models, "bad", np.zeros((1, 1000), np.float32), manifest=manifest_of("bad"))
    refused(callers, row, "output 'output0' is [1, 1000]; the manifest means [1, 6, ?]")


def test_a_model_of_an_opset_to_come(callers: Callers, row: Row, models: Path) -> None:
    changed(models, lambda model: setattr(model.opset_import[0], "version", 99))
    refused(callers, row, "needs opset 99", "export with opset=17")
    shutil.rmtree(models / "bad")
    changed(models, lambda model: setattr(model.graph.node[0], "op_type", "Teleport"))
    refused(callers, row, "needs the operator Teleport")


@pytest.mark.parametrize("location", ["../../../secret.bin", "/etc/passwd", "link.bin"])
def test_a_model_with_weights_outside_its_folder(
    callers: Callers, row: Row, models: Path, location: str, tmp_path: Path
) -> None:
    def move_out(model: onnx.ModelProto) -> None:
        (tensor,) = [each for each in model.graph.initializer if each.name == "fixed"]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    secret = models.parent / "secret.bin"
    secret.write_bytes(columns().tobytes())
    changed(models, move_out)
    (models / "bad" / "1" / "link.bin").symlink_to(secret)
    refused(callers, row, "outside the model's folder")
    secret.unlink()


def test_a_model_of_3_gb(callers: Callers, row: Row, models: Path) -> None:
    place(models, "bad", columns(), manifest=manifest_of("bad"))
    with (models / "bad" / "1" / "model.onnx").open("wb") as file:
        file.truncate(3_000_000_000)
    refused(callers, row, "has 3.0 GB; at most 2.1 GB")


def test_a_model_that_answers_nothing_but_nan(callers: Callers, row: Row, models: Path) -> None:
    place(models, "bad", columns() * np.float32("nan"), manifest=manifest_of("bad"))
    refused(callers, row, "no finite number")


def test_a_model_that_answers_nan_to_an_image(callers: Callers, row: Row, models: Path) -> None:
    put_dark_model(models, "dark")
    refused(callers, row, "no finite number", model="dark")
    black = pictures.encoded(Image.new("RGB", (64, 64)), "PNG")
    response = callers.process_http(black, component="detect", set="modelName=dark")
    assert found(response) == [("cat", 0.5)]


def test_labels_that_do_not_match_the_classes(callers: Callers, row: Row, models: Path) -> None:
    place(models, "bad", columns(), manifest=manifest_of("bad", labels=["cat", "dog", "cow"]))
    refused(callers, row, "output 'output0' is [1, 6, 100]; the manifest means [1, 7, ?]")


@pytest.mark.parametrize("name", ["other", "../bad", "../../coins"])
def test_a_manifest_that_names_another_folder(callers: Callers, row: Row, models: Path, name: str) -> None:
    place(models, "bad", columns(), manifest=manifest_of("bad"))
    manifest = models / "bad" / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("name: bad", f"name: {name}", 1))
    refused(callers, row, "name")


def test_a_model_with_open_axes(callers: Callers, row: Row, models: Path) -> None:
    place(models, "open", columns((32, 32, 8, 8, 1, 0.9)), manifest=manifest_of("open"))
    fixed_output_model(
        columns((32, 32, 8, 8, 1, 0.9)),
        models / "open" / "1" / "model.onnx",
        input_shape=("n", 3, "h", "w"),
        batched=True,
    )
    response = callers.process_http(pictures.photo(), component="detect", set="modelName=open")
    row.takes(response)
    assert found(response) == [("dog", 0.9)]


def test_a_version_that_was_removed(callers: Callers, row: Row, models: Path) -> None:
    """Versions stand side by side, come and go, and nothing is started again."""
    for version, class_id in ((1, 0), (2, 1)):
        place(models, "two", columns((32, 32, 8, 8, class_id, 0.9)), version=version, manifest=manifest_of("two"))

    def ask(*assignments: str) -> httpx.Response:
        return callers.process_http(pictures.photo(), component="detect", set=["modelName=two", *assignments])

    assert found(ask()) == found(ask("modelVersion=2")) == [("dog", 0.9)]
    assert found(ask("modelVersion=1")) == [("cat", 0.9)]
    shutil.rmtree(models / "two" / "2")
    assert found(ask()) == [("cat", 0.9)]
    row.refuses(ask("modelVersion=2"), "no version '2'; there are: 1")
    shutil.rmtree(models / "two")
    row.refuses(ask(), "no model 'two'")


@pytest.mark.parametrize("name", ["confidenceThreshold", "nmsThreshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_threshold_out_of_range(callers: Callers, row: Row, name: str, value: float) -> None:
    assignments = ["modelName=coins", f"{name}={value}"]
    row.refuses(callers.process_http(pictures.coins(), component="detect", set=assignments), name)
    row.refuses(lambda: callers.process_grpc(pictures.coins(), component="detect", set=assignments), name)


@pytest.mark.parametrize(
    ("confidence", "nms", "at_least", "at_most"), [(0, 0, 24, 300), (0, 1, 300, 300), (1, 0, 0, 0), (1, 1, 0, 0)]
)
def test_thresholds_of_0_and_1(
    callers: Callers, row: Row, confidence: int, nms: int, at_least: int, at_most: int
) -> None:
    assignments = ["modelName=coins", f"confidenceThreshold={confidence}", f"nmsThreshold={nms}"]
    response = callers.process_http(pictures.coins(), component="detect", set=assignments)
    row.takes(response)
    assert at_least <= int(response.headers.get("imageflow-detection-count", 0)) <= at_most


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (7, 7)])
def test_an_image_smaller_than_the_stride(callers: Callers, row: Row, width: int, height: int) -> None:
    row.takes(looked_at(callers, width, height))


@pytest.mark.parametrize(("width", "height"), [(1, 10_000), (10_000, 1)])
@pytest.mark.parametrize("tiles", [[], ["tileSize=320"]])
def test_an_image_of_1_by_10000(callers: Callers, row: Row, width: int, height: int, tiles: list[str]) -> None:
    row.takes(looked_at(callers, width, height, *tiles))


def looked_at(callers: Callers, width: int, height: int, *assignments: str) -> httpx.Response:
    image = pictures.encoded(Image.new("RGB", (width, height), (200, 100, 50)), "PNG")
    assignments = ("modelName=coins", "annotate=true", "confidenceThreshold=0", *assignments)
    response = callers.process_http(image, component="detect", set=assignments)
    assert pictures.decoded(response.content).size == (width, height)
    return response


def test_10000_tiles(callers: Callers, row: Row) -> None:
    assignments = ["modelName=coins", "tileSize=5", "tileOverlap=0"]
    response = callers.process_http(pictures.photo(500, 500), component="detect", set=assignments)
    row.refuses(response, "10,000 tiles", "at most 400")


def test_a_thousand_at_once_for_a_model_not_loaded(row: Row, models: Path, product: Product) -> None:
    """Each is answered, with what was found or with when to come back. At the component's own port, where nothing
    holds them up."""
    place(models, "new", columns((32, 32, 8, 8, 1, 0.9)), manifest=manifest_of("new"))
    image = pictures.photo(32, 32)
    request = detect_pb2.DetectServiceProcessRequest(payload=image)
    request.inputs.add(media_type="image/jpeg", size_bytes=len(image)).payload_range.size_bytes = len(image)
    request.parameters.model_name = "new"
    detect = Rpc(product.address("detect"))
    calls = [detect.start("DetectService/Process", request) for _ in range(1000)]
    refusals = [call for call in calls if call.exception() is not None]
    for call in refusals:
        row.refuses(call.result)
    answers = [call.result() for call in calls if call.exception() is None]
    assert {answer.metadata.detections[0].label for answer in answers} == {"dog"}
    assert len(answers) >= 20
    assert refusals
    detect.close()


def found(response: httpx.Response) -> list[tuple[Any, ...]]:
    assert response.status_code == 200, response.text
    return [(each["label"], each["confidence"]) for each in json.loads(response.headers["imageflow-detections"])]
