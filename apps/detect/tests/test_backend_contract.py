"""What every backend promises: the same suite over ONNX Runtime in the process and over a real Triton."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from backends.triton import Triton
from imageflow_common.errors import Cancelled, FailedPrecondition, ImageFlowError
from imageflow_common.lifetime import Lifetime, living
from imageflow_detect.backend import Backend, OnnxBackend
from imageflow_detect.manifest import ModelInvalid
from imageflow_detect.models import Model, ModelRepository
from imageflow_detect.toy_models import manifest_of
from imageflow_detect.toy_repository import image_of
from imageflow_detect.triton import TritonBackend, TritonOptions


@pytest.fixture(params=["onnxruntime", "triton", "triton inline"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    backend: Backend
    if request.param == "onnxruntime":
        backend = OnnxBackend()
    else:
        server: Triton = request.getfixturevalue("triton")
        backend = TritonBackend(TritonOptions(server.url, shared_memory=request.param == "triton"))
    yield backend
    backend.close()
    backend.close()


@pytest.fixture
def repository(served_models: Path) -> ModelRepository:
    return ModelRepository(served_models)


def test_a_backend_says_its_name(backend: Backend) -> None:
    assert backend.name in ("onnxruntime", "triton")


def test_inference_answers_what_the_model_answers(backend: Backend, repository: ModelRepository) -> None:
    model = repository.resolve("mean", "1")
    backend.prepare(model)
    (answer,) = backend.infer(model, image_of(0.25))
    assert answer.dtype == np.float32
    assert answer.shape == (1, 6, 100)
    np.testing.assert_allclose(answer[0, :, 0], [10.25, 10.25, 8.25, 8.25, 0.75, 0.25])
    np.testing.assert_allclose(answer[0, :, 1:], 0.25)


def test_an_answer_is_the_callers_to_keep(backend: Backend, repository: ModelRepository) -> None:
    model = repository.resolve("mean", "1")
    (first,) = backend.infer(model, image_of(1))
    kept = first.copy()
    backend.infer(model, image_of(2))
    np.testing.assert_array_equal(first, kept)


def test_each_of_many_at_once_gets_its_own_answer(backend: Backend, repository: ModelRepository) -> None:
    model = repository.resolve("mean", "1")

    def of(value: int) -> float:
        return float(backend.infer(model, image_of(value))[0][0, 0, 50])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(of, range(200))) == list(range(200))


def test_versions_are_models_of_their_own(backend: Backend, repository: ModelRepository) -> None:
    one, two = (backend.infer(repository.resolve("mean", each), image_of(0))[0] for each in ("1", "2"))
    np.testing.assert_allclose(two, one + 1)


def test_bytes_go_in_as_bytes(backend: Backend, repository: ModelRepository) -> None:
    (answer,) = backend.infer(repository.resolve("bytes"), image_of(200, np.uint8))
    np.testing.assert_allclose(answer[0, :, 1:], 200)


def test_outputs_come_in_the_manifests_order(backend: Backend, repository: ModelRepository) -> None:
    boxes, scores, anchors = backend.infer(repository.resolve("ssd"), image_of(0))
    assert (boxes.shape, scores.shape, anchors.shape) == ((1, 5, 4), (1, 5, 2), (5, 4))
    assert (boxes.max(), scores.max(), anchors.max()) == (1, 2, 3)


def test_an_output_may_vary_in_length(backend: Backend, repository: ModelRepository) -> None:
    model = repository.resolve("rows")
    for count in (0, 3, 20, 1):
        (answer,) = backend.infer(model, image_of(count))
        np.testing.assert_array_equal(answer[0], np.arange(6 * count).reshape(count, 6))


def test_a_model_that_never_answers_a_number_is_no_model(backend: Backend, repository: ModelRepository) -> None:
    with pytest.raises(ModelInvalid, match=r"blank image: the model answered what is no finite number"):
        backend.infer(repository.resolve("nan"), image_of(0))


def test_what_is_no_number_is_an_error_and_never_an_answer(backend: Backend, repository: ModelRepository) -> None:
    model = repository.resolve("dark")
    for _ in range(2):
        with pytest.raises(ImageFlowError, match="no finite number") as caught:
            backend.infer(model, image_of(0.5))
        assert (caught.value.code, caught.value.reason) == ("INTERNAL", "INFERENCE_FAILED")
        assert np.isfinite(backend.infer(model, image_of(0))[0]).all()


def test_a_number_too_large_is_an_error_too(backend: Backend, repository: ModelRepository) -> None:
    with pytest.raises(ImageFlowError) as caught:
        backend.infer(repository.resolve("mean"), image_of(float("inf")))
    assert (caught.value.code, caught.value.reason) == ("INTERNAL", "INFERENCE_FAILED")


def test_what_is_no_model_is_a_failed_precondition(backend: Backend, repository: ModelRepository) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        backend.infer(repository.resolve("broken"), image_of(0))
    assert caught.value.reason in ("MODEL_INVALID", "MODEL_NOT_SERVED")
    assert str(repository.directory) not in caught.value.message


def test_each_of_many_at_once_gets_an_error_of_its_own(backend: Backend, repository: ModelRepository) -> None:
    """One that two requests raise would end the slower one's call when the quicker one's is done."""
    model = repository.resolve("broken")

    def error(_: int) -> FailedPrecondition:
        with pytest.raises(FailedPrecondition) as caught:
            backend.infer(model, image_of(0))
        return caught.value

    with ThreadPoolExecutor(16) as pool:
        errors = list(pool.map(error, range(16)))
    assert len({id(each) for each in errors}) == 16
    assert len({(each.reason, each.message) for each in errors}) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": ["cat"]}, "output0"),
        ({"input": {"size": {"width": 32, "height": 64}}}, "input 'images' is"),
        ({"input": {"name": "x"}}, "no input 'x'"),
        ({"input": {"type": "uint8"}}, "input 'images' is"),
        ({"output": {"layout": "yolo_v8", "name": "y"}}, "no output 'y'"),
    ],
)
def test_a_model_unlike_its_manifest_is_refused(
    backend: Backend, repository: ModelRepository, change: dict[str, object], says: str
) -> None:
    found = repository.resolve("mean", "1")
    model = Model("mean", 1, manifest_of("mean", **change), found.file)  # type: ignore[arg-type]
    with pytest.raises(ModelInvalid, match=says):
        backend.infer(model, image_of(0))


def test_inference_that_is_given_up_ends(backend: Backend, repository: ModelRepository) -> None:
    model, lifetime, begun = repository.resolve("slow"), Lifetime(), threading.Event()
    backend.prepare(model)

    def infer() -> None:
        with living(lifetime):
            begun.set()
            for _ in range(100):  # minutes
                backend.infer(model, image_of(1))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer)
        begun.wait()
        lifetime.give_up()
        with pytest.raises(Cancelled):
            running.result()
