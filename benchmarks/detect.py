"""What detect adds to a bare call of ONNX Runtime, and what reading an answer costs.

    python -m benchmarks.detect [--rounds 200] [--models DIR] [--output benchmarks/results]

*Bare* is one function: letterbox, `InferenceSession.run`, decode, on a session with the same options. *Ours* is
`Detector.detect`, as the component calls it: the model resolved in the repository, the session shared, classes read.
Without `--models` there are two: the tree's, and a network that is of a YOLO's size at its ends.
They take turns, request by request, so that both see the same machine. Writes detect.md and detect.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import numpy as np

from imageflow_common.images import decode as decode_image
from imageflow_common.pixels import IDENTITY, Pixels
from imageflow_common.serve import keep_freed_memory
from imageflow_detect.backend import OnnxBackend, OnnxSession
from imageflow_detect.decode import Wanted, decode
from imageflow_detect.detect import Detector, Found, Question, as_found
from imageflow_detect.letterbox import letterbox
from imageflow_detect.manifest import Manifest
from imageflow_detect.models import Model, ModelRepository

from .environment import Environment, read_environment
from .photograph import coins_jpeg
from .resources import pss_bytes
from .triton_network import put_network

ANCHORS, CLASSES, KEPT = 8400, 80, 100
_WARM_UP = 10
_BATCHES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Times:
    """Of one thing, done many times, in milliseconds: by the clock, and of the processor, which tells more where others
    are at work."""

    least: float
    p50: float
    p95: float
    cpu_p50: float


@dataclass(frozen=True, slots=True)
class Results:
    environment: Environment
    rounds: int
    models: dict[str, dict[str, Times]]
    post_processing: dict[str, Times]
    batches: dict[str, dict[int, float]]
    memory_bytes: dict[str, int]


def bare(pixels: Pixels, session: OnnxSession, model: Model) -> Sequence[Found]:
    """The same in one function."""
    manifest = model.manifest
    boxed = letterbox(pixels, manifest)
    answer = session.run(boxed.tensor, input_name=manifest.input.name, output_names=manifest.output_names)
    boxes = decode(
        answer,
        manifest=manifest,
        to_pixels=boxed.to_pixels,
        width=pixels.width,
        height=pixels.height,
        wanted=Wanted(),
    )
    return as_found(boxes, labels=manifest.labels, to_input=pixels.to_input)


def in_turn(rounds: int, ways: dict[str, Callable[[], object]]) -> dict[str, Times]:
    """Each way once a round, in an order that changes."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(_WARM_UP + rounds):
        for name in names if number % 2 else reversed(names):
            start, cpu_start = time.perf_counter(), time.process_time()
            ways[name]()
            if number >= _WARM_UP:
                taken[name].append((time.perf_counter() - start, time.process_time() - cpu_start))
    return {name: _times(each) for name, each in taken.items()}


def _times(taken: Sequence[tuple[float, float]]) -> Times:
    """Of seconds by the clock and of the processor."""
    clock, cpu = ([1e3 * seconds for seconds in each] for each in zip(*taken, strict=True))
    return Times(min(clock), median(clock), quantiles(clock, n=20)[-1], median(cpu))


def measure_model(repository: ModelRepository, name: str, pixels: Pixels, rounds: int) -> dict[str, Times]:
    """Raises AssertionError when the two ways find other things."""
    model, detector = repository.resolve(name), Detector(repository, OnnxBackend())
    session, question = OnnxSession(model.file), Question(name)
    assert tuple(bare(pixels, session, model)) == detector.detect(pixels, question).found
    tensor = letterbox(pixels, model.manifest).tensor
    names = {"input_name": model.manifest.input.name, "output_names": model.manifest.output_names}
    return in_turn(
        rounds,
        {
            "ours": lambda: detector.detect(pixels, question),
            "bare": lambda: bare(pixels, session, model),
            "inference alone": lambda: session.run(tensor, **names),
        },
    )


def crowded_answer(layout: str) -> tuple[list[np.ndarray], Manifest]:
    """8,400 anchors of 80 classes: 100 objects side by side, each seen by eight anchors, and noise below the threshold;
    in yolo_v5 it is the objectness that is low."""
    random = np.random.default_rng(0)
    rows = np.zeros((ANCHORS, 4 + CLASSES), np.float32)
    rows[:, :2], rows[:, 2:4] = random.uniform(0, 640, (ANCHORS, 2)), random.uniform(4, 200, (ANCHORS, 2))
    rows[:, 4:] = random.uniform(0, 0.2, (ANCHORS, CLASSES))
    centres = np.stack(np.meshgrid(np.arange(10), np.arange(10)), -1).reshape(-1, 2) * 64 + 32
    for number, centre in enumerate(np.repeat(centres, 8, axis=0)):
        rows[number * 10, :2] = centre + random.uniform(-2, 2, 2)
        rows[number * 10, 2:4] = random.uniform(44, 50, 2)
        rows[number * 10, 4 + number // 8 % CLASSES] = random.uniform(0.6, 0.95)
    objectness = np.where(rows[:, 4:].max(axis=1) > 0.5, 1.0, 0.1)
    answer = rows.T[None] if layout == "yolo_v8" else np.insert(rows, 4, objectness, axis=1)[None]
    manifest = Manifest.model_validate(
        {
            "name": "crowd",
            "labels": [f"class {number}" for number in range(CLASSES)],
            "input": {"size": {"width": 640, "height": 640}},
            "output": {"layout": layout},
            "licence": "Apache-2.0",
            "source": "a benchmark",
        }
    )
    return [np.ascontiguousarray(answer)], manifest


def measure_post_processing(rounds: int) -> dict[str, Times]:
    """Raises AssertionError when other than 100 boxes are kept."""
    ways: dict[str, Callable[[], object]] = {}
    for layout in ("yolo_v8", "yolo_v5"):
        answer, manifest = crowded_answer(layout)
        read = partial(decode, answer, manifest=manifest, to_pixels=IDENTITY, width=640, height=640, wanted=Wanted())
        assert len(read()) == KEPT
        ways[layout] = read
    return in_turn(rounds, ways)


def measure_batches(model: Model, rounds: int) -> dict[int, float]:
    """Milliseconds of the processor for an image, by how many are run at once; empty where a model takes one alone."""
    session, manifest = OnnxSession(model.file), model.manifest
    if session.inputs[0].shape[0] is not None:
        return {}
    images = np.random.default_rng(0).uniform(0, 1, (max(_BATCHES), *manifest.input_shape[1:])).astype(np.float32)
    names = {"input_name": manifest.input.name, "output_names": manifest.output_names}
    ways = {str(size): partial(session.run, images[:size], **names) for size in _BATCHES}
    return {int(size): times.cpu_p50 / int(size) for size, times in in_turn(rounds, ways).items()}


def measure_memory(repository: ModelRepository, names: Sequence[str], pixels: Pixels) -> dict[str, int]:
    """Of this process: before a session, and with those of all models loaded and used."""
    pid = {"process": os.getpid()}
    before, detector = pss_bytes(pid)["process"], Detector(repository, OnnxBackend())
    loaded = {"no model": before}
    for number, name in enumerate(names, start=1):
        for _ in range(20):
            detector.detect(pixels, Question(name))
        loaded[f"{number} loaded, the last {name}"] = pss_bytes(pid)["process"]
    return loaded


def report(results: Results) -> str:
    environment = results.environment
    lines = [
        "# What detect costs",
        "",
        f"{environment.date}, commit {environment.commit}, {environment.cpu}, {environment.cores} cores, load average "
        f"{environment.load_average:.1f} at the start; {results.rounds} rounds. Milliseconds, one thread.",
        "",
        "| Model, 1920×1080 | Ours p50 | Bare p50 | Ours / bare | Ours CPU | Bare CPU | Ours / bare | Inference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, ways in results.models.items():
        ours, bare_, alone = ways["ours"], ways["bare"], ways["inference alone"]
        figures = (ours.p50, bare_.p50, ours.p50 / bare_.p50, ours.cpu_p50, bare_.cpu_p50, ours.cpu_p50 / bare_.cpu_p50)
        lines.append(f"| {name} | {' | '.join(f'{each:.2f}' for each in (*figures, alone.p50))} |")
    lines += [
        "",
        "| Reading 8,400 anchors of 80 classes, 100 boxes kept | Least | p50 | p95 | CPU p50 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, each in results.post_processing.items():
        lines.append(f"| {name} | {each.least:.2f} | {each.p50:.2f} | {each.p95:.2f} | {each.cpu_p50:.2f} |")
    lines += ["", "| CPU for an image, by the size of its batch | 1 | 2 | 4 | 8 |", "| --- | --- | --- | --- | --- |"]
    for name, by_size in results.batches.items():
        lines.append(f"| {name} | {' | '.join(f'{by_size[size]:.2f}' for size in _BATCHES)} |")
    lines += ["", "| Memory of the process (PSS) | MB |", "| --- | --- |"]
    lines += [f"| {name} | {size / 1e6:.0f} |" for name, size in results.memory_bytes.items()]
    return "\n".join([*lines, ""])


def measured(repository: ModelRepository, rounds: int) -> Results:
    environment, pixels, names = read_environment(), decode_image(coins_jpeg()), repository.names()
    memory = measure_memory(repository, names, pixels)
    batches = {name: measure_batches(repository.resolve(name), rounds // 10 + 2) for name in names}
    return Results(
        environment,
        rounds,
        {name: measure_model(repository, name, pixels, rounds) for name in names},
        measure_post_processing(rounds),
        {name: found for name, found in batches.items() if found},
        memory,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--models", type=Path, help="A repository: each model in it is measured.")
    options = parser.parse_args()
    keep_freed_memory()
    with TemporaryDirectory() as folder:
        if options.models is None:
            put_network(Path(folder))
        results = measured(ModelRepository(options.models or Path(folder)), options.rounds)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "detect.json").write_text(json.dumps(asdict(results), indent=2) + "\n")
    (options.output / "detect.md").write_text(report(results))
    print(report(results))


if __name__ == "__main__":
    main()
