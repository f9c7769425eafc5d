"""The model that can be used at once, fetched by the real npm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from imageflow_common.errors import FailedPrecondition
from imageflow_common.pixels import Pixels
from imageflow_detect import openimages
from imageflow_detect.adding import accept_model
from imageflow_detect.backend import Backend, OnnxBackend, OnnxSession
from imageflow_detect.detect import Box, Detector, Question
from imageflow_detect.letterbox import letterbox
from imageflow_detect.manifest import Manifest
from imageflow_detect.models import ModelRepository
from imageflow_detect.triton import TritonBackend, TritonOptions

from . import reference


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    return openimages.fetch(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def repository(fetched: tuple[Path, Manifest], served_models: Path) -> ModelRepository:
    repository = ModelRepository(served_models)
    file, manifest = fetched
    accept_model(repository, file, manifest, version=1, photograph=Pixels(data.astronaut()))
    return repository


@pytest.fixture(scope="module", params=["onnxruntime", "triton"])
def detector(request: pytest.FixtureRequest, repository: ModelRepository) -> Iterator[Detector]:
    """By either backend; Triton is told to load what was added while it ran."""
    on_triton = request.param == "triton"
    backend: Backend = (
        TritonBackend(TritonOptions(request.getfixturevalue("triton").url)) if on_triton else OnnxBackend()
    )
    yield Detector(repository, backend)
    backend.close()


@pytest.mark.parametrize(
    ("photograph", "label", "inside", "around"),
    [
        ("astronaut", "Person", Box(80, 60, 260, 440), Box(0, 0, 400, 512)),
        ("chelsea", "Cat", Box(60, 20, 320, 270), Box(0, 0, 451, 300)),
        ("coffee", "Coffee cup", Box(190, 60, 190, 240), Box(140, 0, 300, 360)),
    ],
)
def test_what_is_in_a_photograph_is_found(
    detector: Detector, photograph: str, label: str, inside: Box, around: Box
) -> None:
    """`inside` is certainly of it, and `around` is all of it and a little more, by eye."""
    (found,) = detector.detect(Pixels(getattr(data, photograph)()), Question(openimages.NAME)).found
    assert found.label == label
    box = found.box
    assert around.x <= box.x <= inside.x
    assert around.y <= box.y <= inside.y
    assert inside.x + inside.width <= box.x + box.width <= around.x + around.width + 0.01
    assert inside.y + inside.height <= box.y + box.height <= around.y + around.height + 0.01


@pytest.mark.parametrize("photograph", ["astronaut", "chelsea", "coffee", "camera", "rocket"])
def test_its_boxes_are_those_that_its_layout_means(
    fetched: tuple[Path, Manifest], detector: Detector, photograph: str
) -> None:
    """At a threshold so low that there are hundreds, against the slow reading."""
    file, manifest = fetched
    array = getattr(data, photograph)()
    pixels = Pixels(array if array.ndim == 3 else array[..., None])
    answer = OnnxSession(file).run(
        letterbox(pixels, manifest).tensor, input_name="images", output_names=manifest.output_names
    )
    frame = reference.Frame(pixels.width, pixels.height, (300 / pixels.width, 300 / pixels.height))
    slow = reference.detections(reference.ssd(answer, size=(300, 300)), frame, confidence=0.02, nms=0.6)
    found = detector.detect(pixels, Question(openimages.NAME, confidence_threshold=0.02, nms_threshold=0.6)).found
    ours = [(b.x, b.y, b.x + b.width, b.y + b.height, f.confidence, f.class_id) for f in found for b in [f.box]]
    assert len(ours) > 10
    np.testing.assert_allclose(np.array(ours), np.array(slow), rtol=0, atol=1e-6)


def test_its_manifest_says_where_it_is_from(fetched: tuple[Path, Manifest]) -> None:
    _, manifest = fetched
    assert manifest.licence == "Apache-2.0"
    assert openimages.PACKAGE in manifest.source
    assert len(manifest.labels) == 23
    assert {"Person", "Coffee cup", "Computer mouse", "Cat", "Dog", "Car"} <= set(manifest.labels)


def test_it_is_fetched_once(fetched: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    file, manifest = fetched
    assert openimages.fetch(file.parent) == (file, manifest)


def test_without_npm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FailedPrecondition, match="npm is not here") as caught:
        openimages.fetch(tmp_path)
    assert caught.value.reason == "NPM_MISSING"
    assert list(tmp_path.iterdir()) == []


def test_two_photographs_at_once_are_read_as_each_alone(fetched: tuple[Path, Manifest]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(fetched[0]))
    random = np.random.default_rng(0)
    pair = random.uniform(-1, 1, (2, 3, 300, 300)).astype(np.float32)
    together = session.run(None, {"images": pair})
    for number in range(2):
        alone = session.run(None, {"images": pair[number : number + 1]})
        for one, both in zip(alone, together, strict=True):
            np.testing.assert_allclose(both[number], one[0], atol=1e-4)


def test_the_anchors_tile_the_input() -> None:
    anchors = openimages.anchors(300)
    assert anchors.shape == (1917, 4)
    assert anchors[:, :2].min() > 0
    assert anchors[:, :2].max() < 1
    np.testing.assert_allclose(anchors[-1], [0.5, 0.5, np.sqrt(0.95), np.sqrt(0.95)], rtol=1e-6)
