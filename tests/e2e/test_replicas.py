"""Several processes of one component: one that dies costs next to nothing, and comes back."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import httpx

from imageflow.v1.component_pb2 import DescribeRequest, DescribeResponse

from . import pictures
from .callers import Rpc
from .product import eventually

if TYPE_CHECKING:
    from .product import Product

WORKERS = 3


def is_serving(product: Product, name: str) -> bool:
    """Whether a process has answered requests since it started; one that only starts has not."""
    try:
        return served_by(product, name) > 0
    except grpc.RpcError:
        return False


def served_by(product: Product, name: str) -> int:
    """How many requests a process has answered since it started."""
    rpc = Rpc(product.address(name))
    try:
        answer: DescribeResponse = rpc("ComponentService/Describe", DescribeRequest())
        return answer.averages.requests
    finally:
        rpc.close()


def test_a_replica_killed_under_load_costs_few_requests_and_comes_back(product: Product) -> None:
    answers: Counter[int] = Counter()
    stop = threading.Event()
    photo = pictures.photo(64, 64)

    def load() -> None:
        with httpx.Client(base_url=product.url, timeout=30) as client:
            while not stop.is_set():
                answers[client.post("/v1/components/resize:process", content=photo).status_code] += 1

    workers = [threading.Thread(target=load) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        eventually(lambda: answers[200] > 60)
        killed = product.pids()["resize-1"]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: product.pids()["resize-1"] not in (0, killed))
        served = answers[200]
        eventually(lambda: answers[200] > served + 100)
        eventually(lambda: product.pids()["resize-1"] and is_serving(product, "resize-1"))
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert set(answers) <= {200, 503}, answers
    assert answers[503] <= WORKERS, answers
    assert "resize-1 was ended by SIGKILL" in product.err


def test_every_service_is_a_process_that_would_be_found_if_it_stayed(product: Product) -> None:
    """What the end of all tests rests on: nothing is left of these."""
    running = set(eventually(lambda: 0 not in product.pids().values() and product.pids()).values())
    assert len(running) == 6
    assert running < product.marked_pids()
