"""What breaks off, what is forged, and what is too much at once. Rows of docs/errors.md."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.rpc import error_details_pb2, status_pb2

from imageflow.v1 import image_pb2, pipeline_pb2, resize_pb2

from . import pictures
from .callers import Rpc
from .product import eventually
from .workshop import MAX_RUNNING, MAX_WAITING

if TYPE_CHECKING:
    from .callers import Callers
    from .error_table import Row
    from .product import Product
    from .workshop import Workshop

pytestmark = pytest.mark.usefixtures("then_it_still_serves")

FORGED_NAMES = ["../../../etc/passwd", "/etc/passwd", "o0.1", ".tmp-x"]


@pytest.fixture(params=["through the gateway", "at its own port"])
def resize(request: pytest.FixtureRequest, product: Product) -> Iterator[Rpc]:
    """The component's own service."""
    own = request.param == "at its own port"
    with calling(product.address("resize-1") if own else f"127.0.0.1:{product.port}") as rpc:
        yield rpc


@contextmanager
def calling(target: str) -> Iterator[Rpc]:
    rpc = Rpc(target)
    yield rpc
    rpc.close()


def asked(image: image_pb2.Image, **context: str) -> resize_pb2.ResizeServiceProcessRequest:
    request = resize_pb2.ResizeServiceProcessRequest(inputs=[image])
    for name, value in context.items():
        setattr(request.context, name, value)
    return request


def in_shared_memory(name: str) -> image_pb2.Image:
    layout = image_pb2.RawLayout(height=1, width=100, channels=1, sample_type=image_pb2.RawLayout.UINT8)
    return image_pb2.Image(media_type="image/x-raw", size_bytes=100, shared_memory_name=name, raw_layout=layout)


def test_a_forged_name_of_shared_memory(resize: Rpc, row: Row, product: Product) -> None:
    (owner, *_) = [name for name in product.shared_names() if "." not in name]
    for name in (*FORGED_NAMES, f"{owner}.0", owner):
        for secret in ("", "0" * 64):
            request = asked(in_shared_memory(name), capability_name=owner, capability=secret)
            row.refuses(lambda request=request: resize("ResizeService/Process", request), "shared memory")


def test_a_forged_name_to_write_to(resize: Rpc, row: Row, product: Product) -> None:
    before = product.shared_names()
    photo = pictures.photo()
    image = image_pb2.Image(media_type="image/jpeg", size_bytes=len(photo))
    image.payload_range.size_bytes = len(photo)
    for name in FORGED_NAMES:
        request = asked(image)
        request.payload, request.output.shared_memory_name = photo, name
        row.refuses(lambda request=request: resize("ResizeService/Process", request), "shared memory")
    assert product.shared_names() == before


def test_a_forged_object_key(resize: Rpc, row: Row) -> None:
    for key in ("uploads/somebody-elses.jpg", "../../etc/passwd", ".imageflow/records/default/x"):
        request = asked(image_pb2.Image(media_type="image/jpeg", object_key=key))
        row.refuses(lambda request=request: resize("ResizeService/Process", request), "object", "capability")


def test_a_reference_without_a_capability(resize: Rpc, row: Row) -> None:
    request = asked(in_shared_memory("anything"))
    row.refuses(lambda: resize("ResizeService/Process", request), "needs a capability")


def test_a_valid_capability_through_the_gateway(row: Row, product: Product) -> None:
    """It leads to shared memory at the component's own port, and nowhere through the gateway, which marks its calls
    whatever the caller says."""
    (capability,) = [path for path in product.shared.rglob("*") if path.is_file() and "." not in path.name]
    image = capability.with_name(f"{capability.name}.of-a-test")
    image.write_bytes(bytes(100))
    request = asked(in_shared_memory(image.name), capability_name=capability.name, capability=capability.read_text())
    request.output.always = True
    with calling(f"127.0.0.1:{product.port}") as gateway, calling(product.address("resize-1")) as own:
        assert own("ResizeService/Process", request).image.width > 0
        for header in ({}, {"x-imageflow-gateway": ""}):
            row.refuses(partial(gateway, "ResizeService/Process", request, **header), "needs a capability")
    image.unlink()


def test_an_image_that_is_nowhere(resize: Rpc, row: Row) -> None:
    request = asked(image_pb2.Image(media_type="image/jpeg", size_bytes=10))
    row.refuses(lambda: resize("ResizeService/Process", request), "where its bytes are")
    beyond = image_pb2.Image(media_type="image/jpeg", size_bytes=10)
    beyond.payload_range.offset_bytes, beyond.payload_range.size_bytes = 2**63, 10
    row.refuses(lambda: resize("ResizeService/Process", asked(beyond)), "outside the payload")


def test_bytes_that_are_no_such_message(resize: Rpc, row: Row, product: Product) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{product.port}") as channel:
        call = channel.unary_unary("/imageflow.v1.PipelineService/ExecutePipeline")
        row.refuses(lambda: call(b"\xff\xff\xff\xff", timeout=20), "not such a message")


def test_a_client_that_goes_away_while_it_uploads(callers: Callers, row: Row, product: Product) -> None:
    """There is nobody to answer, and nothing stays: no object, and no part of one."""
    assert (row.code, row.http_status, row.reason) == ("CANCELLED", 0, "")
    store = product.data / "store"
    before = {path for path in store.rglob("*") if path.is_file()}
    with socket.create_connection(("127.0.0.1", product.port), timeout=20) as connection:
        head = "PUT /v1/images/bad/half.jpg HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n"
        connection.sendall(head.encode() + bytes(3_000_000))
        eventually(lambda: {path for path in store.rglob("*") if path.is_file()} - before)
    eventually(lambda: {path for path in store.rglob("*") if path.is_file()} == before)
    assert callers.http.get("/v1/images/bad/half.jpg").status_code == 404


def test_a_component_killed_while_it_works(workshop: Workshop, row: Row) -> None:
    """It is started again by `up`, and serves as before."""
    callers, query = workshop.callers, {"set": "dryingTime=15"}
    answer = _kill_while_it_works(
        workshop, lambda: callers.process_http(pictures.photo(8, 8), component="tint", **query)
    )
    row.refuses(answer, "component cannot be reached")
    eventually(lambda: callers.process_http(pictures.photo(8, 8), component="tint").status_code == 200)


def test_a_component_killed_while_it_works_with_retries(workshop: Workshop, row: Row) -> None:
    """With a policy that outlasts the restart, the caller sees nothing of it."""
    callers = workshop.callers
    policy = {"maxRetries": 20, "initialDelay": "0.1s", "maxDelay": "0.5s"}
    step = {"stepId": "paint", "componentName": "tint", "retryPolicy": policy, "parameters": {"dryingTime": 0.5}}
    stored = callers.post("/v1/pipelines", {"pipelineId": "patient", "version": "1", "steps": [step]})
    assert stored.status_code == 200, stored.text
    row.takes(
        _kill_while_it_works(
            workshop, lambda: callers.http.post("/v1/pipelines/patient:process", content=pictures.photo(8, 8))
        )
    )


def test_a_client_that_goes_away_while_its_pipeline_runs(workshop: Workshop, row: Row) -> None:
    """Its run ends with it: the record says so, and its room is free at once."""
    callers = workshop.callers
    callers.http.put("/v1/images/bad/gone.jpg", content=pictures.photo(8, 8))
    step = {"stepId": "paint", "componentName": "tint", "parameters": {"dryingTime": 1}}
    for number in range(MAX_RUNNING):
        request = {
            "pipeline": {"pipelineId": "gone", "steps": [step]},
            "inputPath": "bad/gone.jpg",
            "executionId": f"gone-{number}",
        }
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{workshop.product.url}/v1/pipelines:execute", json=request, timeout=0.2)
    answer = callers.process_http(pictures.photo(8, 8))
    assert answer.status_code == 200, answer.text
    for number in range(MAX_RUNNING):
        ended = eventually(lambda number=number: _ended(callers, f"gone-{number}"))
        assert (ended["status"], ended["error"]["code"], ended["error"]["reason"]) == (row.code, row.code, row.reason)


def test_a_step_past_its_timeout(workshop: Workshop, row: Row) -> None:
    callers = workshop.callers
    step = {"stepId": "paint", "componentName": "tint", "timeout": "0.1s", "parameters": {"dryingTime": 0.5}}
    stored = callers.post("/v1/pipelines", {"pipelineId": "hasty", "version": "1", "steps": [step]})
    assert stored.status_code == 200, stored.text
    row.refuses(callers.http.post("/v1/pipelines/hasty:process", content=pictures.photo(8, 8)))
    asked = pipeline_pb2.ProcessImageRequest(pipeline_id="hasty", body=HttpBody(data=pictures.photo(8, 8)))
    row.refuses(lambda: callers.rpc("PipelineService/ProcessImage", asked))


def test_more_at_once_than_it_takes(workshop: Workshop, row: Row) -> None:
    """What it admits is answered; the rest is told at once when to come back."""
    rooms = MAX_RUNNING + MAX_WAITING

    def ask(_: int) -> httpx.Response:
        return workshop.callers.process_http(pictures.photo(8, 8), component="tint", set="dryingTime=0.4")

    with ThreadPoolExecutor(3 * rooms) as pool:
        answers = list(pool.map(ask, range(3 * rooms)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {200: rooms, row.http_status: 2 * rooms}
    refused = next(answer for answer in answers if answer.status_code != 200)
    row.refuses(refused, "waiting")
    assert int(refused.headers["retry-after"]) >= 1
    assert any(detail["@type"].endswith("google.rpc.RetryInfo") for detail in refused.json()["details"])

    with ThreadPoolExecutor(3 * rooms) as pool:
        errors = [error for error in pool.map(lambda _: _grpc_error(workshop.callers), range(3 * rooms)) if error]
    assert {error.code().name for error in errors} == {row.code}
    status = status_pb2.Status.FromString(dict(errors[0].trailing_metadata())["grpc-status-details-bin"])
    assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)


def _grpc_error(callers: Callers) -> Any:
    try:
        callers.process_grpc(pictures.photo(8, 8), component="tint", set=["dryingTime=0.4"])
    except grpc.RpcError as exc:
        return exc
    return None


def _ended(callers: Callers, execution_id: str) -> dict[str, Any] | None:
    execution: dict[str, Any] = callers.http.get(f"/v1/executions/{execution_id}").json()
    return execution if execution["status"] not in ("PENDING", "RUNNING") else None


def _kill_while_it_works(workshop: Workshop, ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer to a request during which its component was killed."""
    diary, killed = workshop.folder / "diary.txt", workshop.product.pids()["tint"]
    before = len(diary.read_text()) if diary.exists() else 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask)
        eventually(lambda: waiting.done() or (diary.exists() and len(diary.read_text()) > before))
        assert not waiting.done(), waiting.result().text
        os.kill(killed, signal.SIGKILL)
        answer = waiting.result(30)
    eventually(lambda: workshop.product.pids()["tint"] not in (0, killed))
    return answer
