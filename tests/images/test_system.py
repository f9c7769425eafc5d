"""The system from its images, through Envoy, on the networks and within the limits of containers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e import pictures

from .containers import System, eventually, podman, state_of

pytestmark = pytest.mark.timeout(900)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LOADERS = 4


def stored(running: System, name: str) -> str:
    """The id of an example, put where it is not yet."""
    answer = running.callers.http.post("/v1/pipelines", content=(EXAMPLES / f"{name}.json").read_bytes())
    assert answer.status_code in (200, 409), answer.text
    return name


def load(running: System, path: str, image: bytes, until: threading.Event) -> Counter[int]:
    """Requests, one after the other in each of four threads, until told to stop; how often each status came."""
    statuses: Counter[int] = Counter()

    def ask() -> None:
        while not until.is_set():
            statuses[running.callers.http.post(path, content=image).status_code] += 1

    threads = [threading.Thread(target=ask) for _ in range(LOADERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_a_photograph_goes_through_resize_detect_and_filter(running: System) -> None:
    pipeline = stored(running, "inspect-coins")
    answer = running.callers.http.post(f"/v1/pipelines/{pipeline}:process", content=pictures.coins(2))

    assert answer.status_code == 200, answer.text
    assert pictures.decoded(answer.content).size == (760, 600)
    assert answer.headers["imageflow-detections"].count('"confidence"') >= 20


def test_what_is_executed_is_stored_by_a_user_that_is_not_root(running: System) -> None:
    http = running.callers.http
    stored(running, "inspect-coins")
    http.put("/v1/images/in/coins.png", content=pictures.coins())
    answer = http.post(
        "/v1/pipelines:execute", json={"pipelineId": "inspect-coins", "inputPath": "in/coins.png"}
    ).json()

    assert answer["status"] == "COMPLETED", answer
    assert pictures.decoded(http.get(f"/v1/images/{answer['finalOutputPath']}").content)


def test_images_travel_by_the_volume_in_memory(running: System) -> None:
    definition = (EXAMPLES / "resize-filter.json").read_text()
    plan = running.callers.http.post("/v1/pipelines:validate", content=f'{{"pipeline": {definition}}}').json()

    assert {step["transport"] for step in plan["steps"]} == {"shared-memory"}, plan


def test_a_service_that_is_told_to_end_loses_no_request(running: System) -> None:
    path = f"/v1/pipelines/{stored(running, 'resize-filter')}:process"
    done = threading.Event()
    statuses: list[Counter[int]] = []
    loader = threading.Thread(target=lambda: statuses.append(load(running, path, pictures.photo(1920, 1080), done)))
    loader.start()
    time.sleep(2)
    podman("stop", "--time=30", running.resize)
    time.sleep(2)
    podman("start", running.resize)
    eventually(lambda: running.network.serving(running.resize), running.network.said)
    time.sleep(2)
    done.set()
    loader.join()

    assert set(statuses[0]) == {200}, statuses
    assert statuses[0].total() > 20


def test_a_service_ends_in_time_with_status_0(running: System) -> None:
    podman("stop", "--time=30", running.resize)
    state = state_of(running.resize)
    podman("start", running.resize)
    eventually(lambda: running.network.serving(running.resize), running.network.said)

    assert state["ExitCode"] == 0
    assert not state["OOMKilled"]


@pytest.mark.parametrize("component", ["resize", "filter", "detect"])
def test_images_larger_than_its_memory_are_refused_and_do_not_kill_it(running: System, component: str) -> None:
    """Thirty-two at once, of 99 megapixels each in colour, and then of half as many."""
    began = [state_of(name)["StartedAt"] for name in running.network.containers]
    statuses: Counter[int] = Counter()

    def ask(image: bytes) -> None:
        query = {"set": "modelName=coins"} if component == "detect" else {}
        statuses[running.callers.process_http(image, component=component, **query).status_code] += 1

    for height in (10_000, 5_000):
        image = pictures.encoded(Image.new("RGB", (9_900, height)), "PNG")
        threads = [threading.Thread(target=ask, args=(image,)) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    states = [state_of(name) for name in running.network.containers]
    assert all(state["Running"] and not state["OOMKilled"] for state in states), (statuses, running.network.said())
    assert [state["StartedAt"] for state in states] == began
    assert set(statuses) <= {200, 400, 429}, statuses
    assert statuses[200], statuses
