"""The product with a real Triton behind detect, which comes late, dies under load, and comes back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from . import pictures
from .inference import executed, p3
from .product import eventually

if TYPE_CHECKING:
    from .inference import Inferring

WORKERS = 4


@pytest.fixture(autouse=True)
def _photograph(inferring: Inferring) -> None:
    inferring.callers.http.put(
        "/v1/images/triton/coins.png", content=pictures.coins(2), headers={"content-type": "image/png"}
    )


def metadata(execution: dict[str, Any]) -> dict[str, Any]:
    assert execution["status"] == "COMPLETED", execution
    found: dict[str, Any] = execution["results"]["detect"]["metadata"]
    return found


def test_while_triton_is_missing_detect_is_not_serving_and_says_why(inferring: Inferring) -> None:
    assert f"Triton at {inferring.triton.url} cannot be reached" in inferring.told_before_triton
    assert "ready at" not in inferring.told_before_triton


def test_detections_say_that_triton_made_them(inferring: Inferring) -> None:
    found = metadata(executed(inferring.callers, p3()))
    assert len(found["detections"]) > 15
    assert (found["backend"], found["modelName"], found["modelVersion"]) == ("triton", "coins", "1")
    assert found["inferenceMs"] > 0
    assert found["fallbackReason"] == ""


def test_killed_under_load_and_restarted_it_costs_retries_and_no_wrong_answer(inferring: Inferring) -> None:
    expected = metadata(executed(inferring.callers, p3()))["detections"]
    executions: list[dict[str, Any]] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            executions.append(executed(inferring.callers, p3(retries=10)))

    workers = [threading.Thread(target=load) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        eventually(lambda: len(executions) > 8)
        inferring.triton.kill()
        eventually(lambda: "not_serving" in inferring.product.err.removeprefix(inferring.told_before_triton))
        inferring.triton.start()
        before = len(executions)
        eventually(lambda: len(executions) > before + 20)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert [metadata(each)["detections"] == expected for each in executions] == [True] * len(executions)
    assert {metadata(each)["backend"] for each in executions} == {"triton"}
    assert max(each["results"]["detect"]["attempts"] for each in executions) > 1


def test_the_fallback_finds_the_same_and_says_so(inferring: Inferring) -> None:
    there = metadata(executed(inferring.callers, p3(retries=5)))
    inferring.triton.kill()
    here = metadata(executed(inferring.callers, p3(onUnavailable="local")))
    inferring.bring_back()
    assert (here["backend"], here["fallbackReason"]) == ("onnxruntime", "the inference server is not available")
    assert len(here["detections"]) == len(there["detections"])
    for one, other in zip(here["detections"], there["detections"], strict=True):
        assert one["box"] == pytest.approx(other["box"], abs=0.01)
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-3)
