"""Asynchronous executions of the real product: accepted, watched, cancelled, run again, deleted."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
import yaml

from imageflow.v1.execution_service_pb2 import WatchExecutionRequest

from . import pictures
from .callers import grpc_refusal, http_refusal
from .product import eventually

if TYPE_CHECKING:
    from .callers import Callers
    from .product import Product

SMALL = {
    "pipelineId": "small",
    "version": "1.0.0",
    "steps": [
        {"stepId": "fit", "componentName": "resize", "parameters": {"width": 200, "height": 200}},
        {"stepId": "sharp", "componentName": "filter", "dependencies": ["fit"]},
    ],
}
LAST = ("COMPLETED", "FAILED", "CANCELLED")


def slow(seconds: int = 3600) -> dict[str, Any]:
    """Its second step fails, and waits that long before it tries again: an execution that stays."""
    retry = {"maxRetries": 1, "initialDelay": f"{seconds}s", "maxDelay": f"{seconds}s", "jitter": 0}
    first, second = SMALL["steps"]
    step = {**second, "timeout": "0.000001s", "retryPolicy": retry}  # type: ignore[dict-item]
    return {"pipelineId": "slow", "version": "1.0.0", "timeout": "7200s", "steps": [first, step]}


def create(callers: Callers, **request: Any) -> dict[str, Any]:
    response = callers.post("/v1/executions", {"executionId": f"e-{uuid4().hex}", **request})
    assert response.status_code == 200, response.text
    execution: dict[str, Any] = response.json()
    return execution


def get(callers: Callers, execution_id: str) -> dict[str, Any]:
    execution: dict[str, Any] = callers.http.get(f"/v1/executions/{execution_id}").json()
    return execution


def ended(callers: Callers, execution_id: str) -> dict[str, Any]:
    return eventually(lambda: (e := get(callers, execution_id))["status"] in LAST and e, within=30)


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line and not line.startswith("id: "):
            yield json.loads(line.removeprefix("data: "))


def watch(callers: Callers, execution_id: str, after: int = 0, accept: str = "*/*") -> list[dict[str, Any]]:
    """Every event, to the end of the stream."""
    path = f"/v1/executions/{execution_id}:watch"
    with callers.http.stream("GET", path, params={"afterEvent": after}, headers={"accept": accept}) as response:
        assert response.status_code == 200
        return list(events(response))


def summary(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["stepId"], event["status"]) for event in told if event["number"]]


@pytest.fixture(scope="module")
def photo(callers: Callers) -> str:
    key = "executions/photo.jpg"
    response = callers.http.put(f"/v1/images/{key}", content=pictures.photo(), headers={"content-type": "image/jpeg"})
    assert response.status_code == 200
    return key


@pytest.fixture
def waiting(callers: Callers, photo: str) -> Iterator[str]:
    """An execution whose first step is done and whose second waits for its next attempt."""
    execution_id = create(callers, pipeline=slow(), inputPath=photo)["executionId"]
    eventually(lambda: get(callers, execution_id)["results"].get("fit", {}).get("status") == "COMPLETED")
    yield execution_id
    callers.post(f"/v1/executions/{execution_id}:cancel", {})


def test_what_is_accepted_is_done(callers: Callers, photo: str) -> None:
    accepted = create(callers, pipeline=SMALL, inputPath=photo, outputPath="executions/out.png", outputFormat="png")
    assert accepted["status"] == "PENDING"
    execution = ended(callers, accepted["executionId"])
    assert (execution["status"], execution["finalOutputPath"]) == ("COMPLETED", "executions/out.png"), execution
    assert {step: each["status"] for step, each in execution["results"].items()} == {
        "fit": "COMPLETED",
        "sharp": "COMPLETED",
    }
    output = callers.http.get("/v1/images/executions/out.png")
    assert pictures.decoded(output.content).size == (200, 200)
    assert execution["createTime"] <= execution["startTime"] <= execution["endTime"] < execution["expireTime"]


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"], ids=["ndjson", "sse"])
def test_a_watch_over_http_ends_with_the_execution(callers: Callers, photo: str, waiting: str, accept: str) -> None:
    path = f"/v1/executions/{waiting}:watch"
    with callers.http.stream("GET", path, headers={"accept": accept}) as response:
        kind = "text/event-stream" if "event" in accept else "application/x-ndjson"
        assert response.headers["content-type"] == kind
        told = events(response)
        first = next(told)
        assert (first["number"], first["execution"]["executionId"], first["terminal"]) == (0, waiting, False)
        callers.post(f"/v1/executions/{waiting}:cancel", {"message": "enough"})
        rest = list(told)
    last = rest[-1]
    assert (last["status"], last["terminal"], last["execution"]["status"]) == ("CANCELLED", True, "CANCELLED")
    numbers = [event["number"] for event in rest]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > first["execution"]["lastEventNumber"]


def test_a_watch_by_grpc_ends_with_the_execution(callers: Callers, waiting: str) -> None:
    told: list[Any] = []
    request = WatchExecutionRequest(execution_id=waiting)
    watcher = threading.Thread(target=lambda: told.extend(callers.rpc("ExecutionService/WatchExecution", request)))
    watcher.start()
    callers.post(f"/v1/executions/{waiting}:cancel", {})
    watcher.join(30)
    assert told[0].HasField("execution")
    assert told[-1].terminal


def test_a_watch_of_an_ended_execution_is_one_event(callers: Callers, photo: str) -> None:
    execution_id = ended(callers, create(callers, pipeline=SMALL, inputPath=photo)["executionId"])["executionId"]
    (only,) = watch(callers, execution_id)
    assert (only["terminal"], only["execution"]["status"]) == (True, "COMPLETED")


def test_a_watcher_who_comes_back_gets_what_he_missed(callers: Callers, waiting: str) -> None:
    last = get(callers, waiting)["lastEventNumber"]
    assert last > 2
    with callers.http.stream("GET", f"/v1/executions/{waiting}:watch", params={"afterEvent": 1}) as response:
        told = events(response)
        assert next(told)["number"] == 0
        again = [next(told) for _ in range(last - 1)]
    assert [event["number"] for event in again] == list(range(2, last + 1))
    assert ("fit", "COMPLETED") in summary(again)


def test_a_browser_goes_on_behind_the_last_event_that_it_has_seen(callers: Callers, waiting: str) -> None:
    """As an EventSource does: it keeps the last `id`, and says it when it connects again."""
    last = get(callers, waiting)["lastEventNumber"]
    headers = {"accept": "text/event-stream"}
    with callers.http.stream("GET", f"/v1/executions/{waiting}:watch", headers=headers) as response:
        lines = response.iter_lines()
        assert (next(lines), next(lines)[:7]) == (f"id: {last}", "data: {")
    headers["last-event-id"] = "1"
    with callers.http.stream("GET", f"/v1/executions/{waiting}:watch", headers=headers) as response:
        ids = (line for line in response.iter_lines() if line.startswith("id: "))
        assert [next(ids) for _ in range(last)] == [f"id: {number}" for number in range(1, last + 1)]


def test_nobody_watches_what_is_not_there(callers: Callers) -> None:
    refusal = http_refusal(callers.http.get("/v1/executions/none:watch"))
    assert (refusal.http_status, refusal.reason) == (404, "EXECUTION_NOT_FOUND")


def calls_in_flight(product: Product) -> int:
    """At the orchestrator, as the gateway counts them."""
    listeners = yaml.safe_load((product.data / "run" / "gateway.yaml").read_text())["static_resources"]["listeners"]
    port = next(each["address"]["socket_address"]["port_value"] for each in listeners if each["name"] == "status")
    figures = httpx.get(f"http://127.0.0.1:{port}/stats/prometheus").text
    name = r"envoy_cluster_upstream_rq_active{[^}]*orchestrator[^}]*} (\d+)"
    return sum(int(count) for count in re.findall(name, figures))


def test_watchers_who_go_away_free_their_calls(callers: Callers, product: Product, waiting: str) -> None:
    with ExitStack() as stack:
        path = f"/v1/executions/{waiting}:watch"
        watches = [events(stack.enter_context(callers.http.stream("GET", path))) for _ in range(20)]
        assert {next(told)["executionId"] for told in watches} == {waiting}
        assert calls_in_flight(product) >= 20
    eventually(lambda: calls_in_flight(product) == 0)
    assert get(callers, waiting)["status"] == "RUNNING"


def test_cancel_ends_what_waits_and_says_why(callers: Callers, waiting: str) -> None:
    response = callers.post(f"/v1/executions/{waiting}:cancel", {"message": "changed my mind"})
    assert (response.status_code, response.json()["status"]) == (200, "CANCELLED")
    execution = get(callers, waiting)
    assert (execution["status"], execution["error"]["message"]) == ("CANCELLED", "changed my mind")
    assert execution["results"]["fit"]["status"] == "COMPLETED"
    refusal = http_refusal(callers.post(f"/v1/executions/{waiting}:cancel", {}))
    assert (refusal.http_status, refusal.reason) == (400, "EXECUTION_ENDED")


def test_a_rerun_takes_over_what_was_done(callers: Callers, photo: str) -> None:
    bad = {**SMALL, "steps": [*SMALL["steps"][:1], {**SMALL["steps"][1], "timeout": "0.000001s"}]}  # type: ignore[index,dict-item]
    bad["steps"][1]["retryPolicy"] = {"maxRetries": 0}  # type: ignore[index]
    failed = ended(callers, create(callers, pipeline=bad, inputPath=photo)["executionId"])
    assert failed["status"] == "FAILED"
    response = callers.post(f"/v1/executions/{failed['executionId']}:rerun", {"newExecutionId": f"r-{uuid4().hex}"})
    assert response.status_code == 200, response.text
    again = ended(callers, response.json()["executionId"])
    assert (again["rerunOf"], again["reusedSteps"]) == (failed["executionId"], ["fit"])
    assert again["results"]["fit"]["status"] == "COMPLETED"


def test_a_rerun_of_what_completed_starts_where_it_is_told(callers: Callers, photo: str) -> None:
    done = ended(callers, create(callers, pipeline=SMALL, inputPath=photo)["executionId"])
    body = {"fromStep": "sharp", "overrides": {"sharp.filterType": "invert"}}
    again = ended(callers, callers.post(f"/v1/executions/{done['executionId']}:rerun", body).json()["executionId"])
    assert (again["status"], again["reusedSteps"]) == ("COMPLETED", ["fit"]), again
    refusal = http_refusal(callers.post(f"/v1/executions/{done['executionId']}:rerun", {"fromStep": "none"}))
    assert (refusal.http_status, list(refusal.faults)) == (400, ["fromStep"])
    refusal = http_refusal(callers.post(f"/v1/executions/{done['executionId']}:rerun", {"fromstep": "sharp"}))
    assert refusal.http_status == 400


def test_a_batch_is_an_execution_for_each_image(callers: Callers) -> None:
    for number in range(5):
        callers.http.put(f"/v1/images/batch/in/{number}.jpg", content=pictures.photo(64 + number, 64))
    callers.http.put("/v1/images/batch/in/bad.jpg", content=b"no image")
    parent = create(
        callers, pipeline=SMALL, batch={"prefix": "batch/in/", "outputPrefix": "batch/out"}, outputFormat="png"
    )["executionId"]
    execution = ended(callers, parent)
    assert execution["status"] == "FAILED"
    assert execution["batch"] == {"total": 6, "completed": 5, "failed": 1, "cancelled": 0}
    listed = callers.http.get("/v1/executions", params={"parentExecutionId": parent, "pageSize": 100}).json()
    assert len(listed["executions"]) == 6
    assert {each["parentExecutionId"] for each in listed["executions"]} == {parent}
    written = callers.http.get("/v1/images", params={"prefix": "batch/out/"}).json()["images"]
    assert [each["key"] for each in written if not each["key"].endswith(".json")] == [
        f"batch/out/{number}.png" for number in range(5)
    ]


def test_a_list_can_be_narrowed(callers: Callers, photo: str) -> None:
    pipeline = {**SMALL, "pipelineId": f"p-{uuid4().hex}"}
    first, second = (
        ended(callers, create(callers, pipeline=pipeline, inputPath=photo)["executionId"]) for _ in range(2)
    )

    def listed(**query: str) -> list[str]:
        answer = callers.http.get("/v1/executions", params={"pipelineId": pipeline["pipelineId"], **query}).json()
        return [each["executionId"] for each in answer["executions"]]

    both = [second["executionId"], first["executionId"]]
    assert listed() == both
    assert listed(status="COMPLETED") == both
    assert listed(status="FAILED") == []
    assert listed(createdBefore=second["createTime"]) == both[1:]
    assert listed(createdAfter=second["createTime"]) == both[:1]
    assert http_refusal(callers.http.get("/v1/executions?createdAfter=yesterday")).http_status == 400


def test_delete_leaves_nothing_but_the_callers_own_output(callers: Callers, photo: str) -> None:
    execution = ended(
        callers, create(callers, pipeline=SMALL, inputPath=photo, outputPath="executions/kept.jpg")["executionId"]
    )
    kept = execution["results"]["fit"]["outputPath"]
    assert callers.http.get(f"/v1/images/{kept}").status_code == 200
    path = f"/v1/executions/{execution['executionId']}"
    assert callers.http.delete(path).json() == {}
    assert http_refusal(callers.http.get(path)).reason == "EXECUTION_NOT_FOUND"
    assert callers.http.get(f"/v1/images/{kept}").status_code == 404
    assert callers.http.get("/v1/images/executions/kept.jpg").status_code == 200


def test_what_runs_is_not_deleted(callers: Callers, waiting: str) -> None:
    refusal = http_refusal(callers.http.delete(f"/v1/executions/{waiting}"))
    assert (refusal.http_status, refusal.reason) == (400, "EXECUTION_RUNNING")


def test_the_same_request_is_the_same_execution(callers: Callers, photo: str) -> None:
    request = {"pipeline": SMALL, "inputPath": photo, "executionId": f"e-{uuid4().hex}"}
    first = create(callers, **request)
    done = ended(callers, first["executionId"])
    again = create(callers, **request)
    assert (again["createTime"], again["status"]) == (done["createTime"], "COMPLETED")
    refusal = http_refusal(callers.post("/v1/executions", {**request, "quality": 5, "outputFormat": "jpeg"}))
    assert (refusal.http_status, refusal.reason) == (409, "EXECUTION_EXISTS")
    assert "quality" in refusal.message


def test_many_at_once_with_one_id_are_one_execution(callers: Callers, photo: str) -> None:
    request = {"pipeline": SMALL, "inputPath": photo, "executionId": f"e-{uuid4().hex}"}
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(create(callers, **request))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["createTime"] for answer in answers}) == 1
    assert len(answers) == 8


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"inputPath": "x"}, "pipeline"),
        ({"pipeline": SMALL}, "inputPath"),
        ({"pipeline": SMALL, "inputPath": "x", "inputPaht": "y"}, "inputPaht"),
        ({"pipeline": SMALL, "batch": {}}, "batch"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_accepted(
    callers: Callers, request_: dict[str, Any], field: str
) -> None:
    refusal = http_refusal(callers.post("/v1/executions", request_))
    assert refusal.http_status == 400
    assert field in refusal.faults


def test_the_plan_has_the_estimates_of_what_has_run(callers: Callers, photo: str) -> None:
    ended(callers, create(callers, pipeline=SMALL, inputPath=photo)["executionId"])

    def known() -> dict[str, Any] | None:
        plan: dict[str, Any] = callers.post("/v1/pipelines:validate", {"pipeline": SMALL}).json()
        return plan if "estimatedMs" in plan else None

    plan = eventually(known)
    assert plan["estimatedMs"] == pytest.approx(sum(step["estimatedMs"] for step in plan["steps"]))
    assert all(int(step["estimatedMemoryBytes"]) > 0 for step in plan["steps"])


def test_over_grpc_what_is_not_there_is_not_found_too(callers: Callers) -> None:
    refusal = grpc_refusal(
        lambda: callers.rpc("ExecutionService/WatchExecution", WatchExecutionRequest(execution_id="none"))
    )
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "EXECUTION_NOT_FOUND")
