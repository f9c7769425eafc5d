"""Variant a: the components' own functions, called one after the other in this process. Nothing is served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import perf_counter, sleep

from imageflow.v1.detect_pb2 import DetectParameters
from imageflow_common.component import Component
from imageflow_common.images import decode, encode, probe
from imageflow_common.serve import keep_freed_memory
from imageflow_detect.app import build
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.detect import Detector
from imageflow_detect.models import ModelRepository
from imageflow_filter.app import filter_pixels
from imageflow_resize.app import resize

from .samples import Block, Load, Sample, together
from .workloads import MODEL, MODELS, Step, Workload


class DifferentAnswers(Exception):
    """The same request was not always answered the same."""


@cache
def _components() -> dict[Step, tuple[Component, bytes]]:
    """Each component with its encoded parameters; the allocator as `serve` sets it."""
    keep_freed_memory()
    detect = build(Detector(ModelRepository(MODELS), OnnxBackend()))
    wanted = DetectParameters(model_name=MODEL).SerializeToString()
    return {"resize": (resize, b""), "detect": (detect, wanted), "filter": (filter_pixels, b"")}


def process(workload: Workload, jpeg: bytes) -> tuple[Sample, bytes, int]:
    """One request: decoded with the first component's hint, each function called, encoded; and how many detections
    there were."""
    components = _components()
    started = perf_counter()
    first, encoded = components[workload.steps[0]]
    assert first.minimal_size is not None
    header = probe(jpeg)
    pixels = decode(jpeg, min_size=first.minimal_size(first.parameters(encoded), header.width, header.height))
    decoded = perf_counter()
    detections = 0
    for step in workload.steps:
        component, encoded = components[step]
        result = component(pixels, parameters=component.parameters(encoded))
        pixels = result.pixels or pixels
        detections += len(getattr(result.metadata, "detections", ()))
    computed = perf_counter()
    output = encode(pixels, media_type="image/jpeg")
    ended = perf_counter()
    parts = {"decode": decoded - started, "compute": computed - decoded, "encode": ended - computed}
    return Sample((ended - started) * 1e3, {part: value * 1e3 for part, value in parts.items()}), output, detections


def run_block(workload: Workload, jpeg: bytes, *, warm_up: int, count: int) -> Block:
    """Requests one after the other, the first of them not counted. Raises DifferentAnswers."""
    answers = [process(workload, jpeg) for _ in range(warm_up + count)]
    if len({(output, detections) for _, output, detections in answers}) != 1:
        raise DifferentAnswers(f"{workload.title}: the functions")
    _, output, detections = answers[0]
    return Block(tuple(sample for sample, _, _ in answers[warm_up:]), output, detections)


def run_load(workload: Workload, jpeg: bytes, *, start: float, seconds: float) -> Load:
    """Requests without a pause, one at least, from `start`, on the clock of perf_counter, which all processes of a
    machine share: so they begin together."""
    process(workload, jpeg)
    sleep(max(0.0, start - perf_counter()))
    begun, completed = perf_counter(), 0
    while not completed or perf_counter() < start + seconds:
        process(workload, jpeg)
        completed += 1
    return Load(completed, perf_counter() - begun)


def run_threaded_load(workload: Workload, jpeg: bytes, *, threads: int, seconds: float) -> Load:
    """The same in several threads of this process."""
    process(workload, jpeg)
    start = perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        loads = pool.map(lambda _: run_load(workload, jpeg, start=start, seconds=seconds), range(threads))
        return together(loads)
