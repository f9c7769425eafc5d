"""Variants b and c: the client, over HTTP/1.1 with kept connections, one a thread. Runs in a process of its own."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import urlsplit

from .samples import Block, Load, Sample
from .server_timing import read_parts
from .workloads import WORKLOADS, Workload

_TIMEOUT_SECONDS = 60.0


class UnexpectedAnswer(Exception):
    """A request was not answered as it should be; the message is what kind of answer it was."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answered, and how long it took."""

    wall_ms: float
    body: bytes
    detections: int
    server_timing: str


class Pipeline(Protocol):
    """A pipeline that can be stored and run."""

    @property
    def pipeline_id(self) -> str: ...
    def definition(self) -> dict[str, Any]: ...


class Connection:
    """One kept connection to the gateway."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_SECONDS)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._connection.close()

    def store(self, pipeline: Pipeline) -> None:
        """Stores the pipeline's definition. Raises UnexpectedAnswer."""
        body = json.dumps(pipeline.definition())
        self._connection.request("POST", "/v1/pipelines", body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise UnexpectedAnswer(f"{response.status} {answer.decode(errors='replace')}")

    def process(self, pipeline: Pipeline, image: bytes, media_type: str = "image/jpeg") -> Answer:
        """Raises UnexpectedAnswer, OSError, http.client.HTTPException."""
        started = perf_counter()
        path = f"/v1/pipelines/{pipeline.pipeline_id}:process"
        self._connection.request("POST", path, image, {"content-type": media_type})
        response = self._connection.getresponse()
        body = response.read()
        wall_ms = (perf_counter() - started) * 1e3
        if response.status != 200:
            raise UnexpectedAnswer(str(response.status))
        detections = int(response.headers.get("imageflow-detection-count", "0"))
        return Answer(wall_ms, body, detections, response.headers["server-timing"])


def store_pipelines(url: str) -> None:
    """Raises UnexpectedAnswer."""
    connection = Connection(url)
    for workload in WORKLOADS:
        connection.store(workload)
    connection.close()


def run_block(url: str, workload: Workload, jpeg: bytes, *, warm_up: int, count: int) -> Block:
    """Requests one after the other, the first of them not counted. Raises UnexpectedAnswer, OSError."""
    connection = Connection(url)
    try:
        answers = [connection.process(workload, jpeg) for _ in range(warm_up + count)]
    finally:
        connection.close()
    if len({(answer.body, answer.detections) for answer in answers}) != 1:
        raise UnexpectedAnswer(f"{workload.title}: not always the same output")
    samples = [Sample(each.wall_ms, read_parts(each.server_timing, each.wall_ms)) for each in answers[warm_up:]]
    return Block(tuple(samples), answers[0].body, answers[0].detections)


def run_load(url: str, workload: Workload, jpeg: bytes, expected: bytes, *, in_flight: int, seconds: float) -> Load:
    """So many threads, each with a request in flight all the time. A refusal, a broken connection and another output
    than `expected` count as errors."""
    barrier = threading.Barrier(in_flight + 1)
    errors: Counter[str] = Counter()
    completed = [0] * in_flight
    until: list[float] = []

    def keep_asking(number: int) -> None:
        connection: Connection | None = None
        barrier.wait()
        while perf_counter() < until[0]:
            try:
                connection = connection or Connection(url)
                if connection.process(workload, jpeg).body != expected:
                    raise UnexpectedAnswer("another output")
                completed[number] += 1
            except UnexpectedAnswer as exc:
                errors[str(exc)] += 1
            except (OSError, http.client.HTTPException) as exc:
                errors[type(exc).__name__] += 1
                connection = None
        if connection is not None:
            connection.close()

    threads = [threading.Thread(target=keep_asking, args=(number,)) for number in range(in_flight)]
    for thread in threads:
        thread.start()
    started = perf_counter()
    until.append(started + seconds)
    barrier.wait()
    for thread in threads:
        thread.join()
    return Load(sum(completed), perf_counter() - started, dict(errors))
