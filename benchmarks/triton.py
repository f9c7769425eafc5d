"""Measures detection on Triton beside a bare tritonclient, and beside ONNX Runtime in the process.

    python -m benchmarks.triton [--quick] [--output DIR]

Writes triton.md. The bare ways are one function: the same letterbox, the client's own call, the same decoding. The
network has fixed weights, one image of 3×640×640 float32 in (4.9 MB) and 84×8400 out (2.8 MB). Needs a real Triton,
which it starts, and a quiet machine. Ends with status 1 when two ways do not find the same boxes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc
import tritonclient.utils.shared_memory as client_memory

from backends.server import CannotStart
from backends.triton import Triton
from imageflow_common.pixels import Pixels
from imageflow_detect.backend import Backend, OnnxBackend, OnnxSession
from imageflow_detect.decode import decode
from imageflow_detect.detect import Detector, Question, as_found
from imageflow_detect.letterbox import letterbox
from imageflow_detect.models import Model, ModelRepository
from imageflow_detect.tensors import Array, Tensor
from imageflow_detect.triton import TritonBackend, TritonOptions

from . import client
from .environment import Environment, read_environment
from .photograph import coins_jpeg
from .product import product
from .resources import pss_bytes
from .samples import percentile
from .triton_network import NAME, put_network
from .worker import Worker
from .workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
IN_FLIGHT = 16
MIB = 1 << 20

Look = Callable[[], int]
"""Looks at the photograph; answers how many boxes there are."""


@dataclass(frozen=True, slots=True)
class Amount:
    rounds: int
    requests: int
    load_seconds: float


FULL = Amount(rounds=9, requests=30, load_seconds=4.0)
QUICK = Amount(rounds=2, requests=3, load_seconds=0.3)


class BareTriton:
    """tritonclient, as its examples use it."""

    def __init__(self, url: str, model: Model, *, shared_memory: bool) -> None:
        self._client: Any = tritonclient.grpc.InferenceServerClient(url)
        self._model = model
        self._shared_memory = shared_memory
        self._own = threading.local()
        self._regions: list[Any] = []

    def infer(self, tensor: Tensor) -> Array:
        name = self._model.manifest.output_names[0]
        image = tritonclient.grpc.InferInput(self._model.manifest.input.name, list(tensor.shape), "FP32")
        output = tritonclient.grpc.InferRequestedOutput(name)
        if not self._shared_memory:
            image.set_data_from_numpy(tensor)
            answer: Array = self._call(image, output).as_numpy(name)
            return answer
        region, size = self._region(tensor.nbytes), tensor.nbytes
        client_memory.set_shared_memory_region(region["handle"], [tensor])
        image.set_shared_memory(region["name"], size)
        output.set_shared_memory(region["name"], region["size"] - size, size)
        self._call(image, output)
        answer = client_memory.get_contents_as_numpy(region["handle"], np.float32, [1, 84, 8400], offset=size)
        return np.asarray(answer)

    def close(self) -> None:
        for region in self._regions:
            self._client.unregister_system_shared_memory(region["name"])
            client_memory.destroy_shared_memory_region(region["handle"])
        self._client.close()

    def _call(self, image: Any, output: Any) -> Any:
        version = str(self._model.version)
        return self._client.infer(NAME, [image], model_version=version, outputs=[output], client_timeout=60)

    def _region(self, input_bytes: int) -> dict[str, Any]:
        if not hasattr(self._own, "region"):
            name, size = f"bare-{threading.get_ident()}", input_bytes + 84 * 8400 * 4
            handle = client_memory.create_shared_memory_region(name, f"/{name}", size)
            self._client.register_system_shared_memory(name, f"/{name}", size)
            self._own.region = {"name": name, "size": size, "handle": handle}
            self._regions.append(self._own.region)
        region: dict[str, Any] = self._own.region
        return region


def bare_look(pixels: Pixels, model: Model, infer: Callable[[Tensor], Array]) -> Look:
    """Letterbox, call, decode: what a script would do."""

    def look() -> int:
        boxed = letterbox(pixels, model.manifest)
        boxes = decode(
            (infer(boxed.tensor),),
            manifest=model.manifest,
            to_pixels=boxed.to_pixels,
            width=pixels.width,
            height=pixels.height,
            wanted=Question(NAME).wanted(model),
        )
        return len(as_found(boxes, labels=model.labels, to_input=pixels.to_input))

    return look


def our_look(pixels: Pixels, repository: ModelRepository, backend: Backend) -> Look:
    detector = Detector(repository, backend)
    return lambda: len(detector.detect(pixels, Question(NAME)).found)


@contextmanager
def ways(url: str, repository: ModelRepository, pixels: Pixels) -> Iterator[dict[str, Look]]:
    """Every way to look, by its name."""
    model = repository.resolve(NAME)
    session = OnnxSession(model.file)
    names = {"input_name": model.manifest.input.name, "output_names": model.manifest.output_names}
    with (
        closing(BareTriton(url, model, shared_memory=False)) as bare,
        closing(BareTriton(url, model, shared_memory=True)) as bare_shared,
        closing(TritonBackend(TritonOptions(url, shared_memory=False))) as inline,
        closing(TritonBackend(TritonOptions(url))) as shared,
        closing(OnnxBackend()) as local,
    ):
        yield {
            "bare tritonclient, inline": bare_look(pixels, model, bare.infer),
            "ours on Triton, inline": our_look(pixels, repository, inline),
            "bare tritonclient, shared memory": bare_look(pixels, model, bare_shared.infer),
            "ours on Triton, shared memory": our_look(pixels, repository, shared),
            "bare onnxruntime": bare_look(pixels, model, lambda tensor: session.run(tensor, **names)[0]),  # type: ignore[arg-type]
            "ours in process": our_look(pixels, repository, local),
        }


def times(looks: Mapping[str, Look], amount: Amount) -> dict[str, list[list[float]]]:
    """Milliseconds of each way, round by round; the ways take turns, one request each, so that whatever else the
    machine does is there for all of them; there and back, so that none always comes after the same other one."""
    found: dict[str, list[list[float]]] = {name: [] for name in looks}
    names = list(looks)
    for look in looks.values():
        look()
    for _ in range(amount.rounds):
        for each in found.values():
            each.append([])
        for number in range(amount.requests):
            for name in names if number % 2 else reversed(names):
                found[name][-1].append(_milliseconds(looks[name]))
    return found


def rate(look: Callable[[], object], amount: Amount) -> float:
    """Calls a second with IN_FLIGHT at a time, each beginning when its thread's last has ended."""
    counts, end = [0] * IN_FLIGHT, perf_counter() + amount.load_seconds

    def work(number: int) -> None:
        while perf_counter() < end:
            look()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(IN_FLIGHT)]
    started = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (perf_counter() - started)


def prepared(models: Path, url: str | None) -> None:
    """Two models used, in a process of its own, whose memory is then read."""
    global _kept
    _kept = TritonBackend(TritonOptions(url)) if url else OnnxBackend()
    repository = ModelRepository(models)
    for name in repository.names():
        model = repository.resolve(name)
        for _ in range(20):
            _kept.infer(model, np.zeros(model.manifest.input_shape, np.float32))


_kept: Backend


def memory(models: Path, server: Triton) -> dict[str, float]:
    """MiB (PSS) with two models loaded."""
    found = {}
    for name, url in (("detect's process, ONNX Runtime in it", None), ("detect's process, with Triton", server.url)):
        with Worker() as worker:
            worker.call(prepared, models, url)
            found[name] = sum(pss_bytes({name: worker.pid}).values()) / MIB
    process = server.process()
    assert process is not None
    found["Triton"] = sum(pss_bytes({"triton": process.pid}).values()) / MIB
    found["Triton's Python processes, one for each instance"] = sum(
        pss_bytes({str(each.pid): each.pid}).popitem()[1] / MIB
        for each in process.children(recursive=True)
        if each.status() != psutil.STATUS_ZOMBIE
    )
    return found


def whole(url: str, amount: Amount) -> dict[str, tuple[float, float]]:
    """P3 through the gateway: the median of one at a time, and requests a second at IN_FLIGHT."""
    p3 = next(each for each in WORKLOADS if each.name == "P3")
    with (
        Worker() as caller,
        product(shared_memory=True) as local,
        product(shared_memory=True, triton=url) as remote,
    ):
        jpeg = caller.call(coins_jpeg)
        products = {"ONNX Runtime": local.url, "Triton": remote.url}
        found: dict[str, list[float]] = {name: [] for name in products}
        loads: dict[str, list[float]] = {name: [] for name in products}
        for each in products.values():
            caller.call(client.store_pipelines, each)
        for _ in range(amount.rounds):
            for name, place in products.items():
                block = caller.call(client.run_block, place, p3, jpeg, warm_up=2, count=amount.requests)
                found[name] += [sample.wall_ms for sample in block.samples]
                load = caller.call(
                    client.run_load,
                    place,
                    p3,
                    jpeg,
                    block.output,
                    in_flight=8,
                    seconds=amount.load_seconds / 4,
                )
                loads[name].append(load.per_second)
                if load.errors or not block.detections:
                    raise SystemExit(f"P3 on {name} failed: {load.errors}")
    return {name: (statistics.median(found[name]), statistics.median(loads[name])) for name in products}


def report(
    environment: Environment,
    found: Mapping[str, list[list[float]]],
    rates: Mapping[str, float],
    sizes: Mapping[str, float],
    pipelines: Mapping[str, tuple[float, float]],
) -> str:
    lines = [
        "# Detection on Triton",
        "",
        f"{environment.date}, {environment.commit}, {environment.cores} cores, {environment.cpu}, load average at the "
        f"start {environment.load_average:g}. By `python -m benchmarks.triton`, whose first lines say what is "
        "measured. Triton 2.51, CPU, ONNX Runtime in its Python backend.",
        "",
        "| One at a time | p50 ms | p95 ms | Of the bare way, in single rounds |",
        "| --- | ---: | ---: | ---: |",
    ]
    names = list(found)
    for bare, ours in zip(names[::2], names[1::2], strict=True):
        ratios = [statistics.median(b) / statistics.median(a) for a, b in zip(found[bare], found[ours], strict=True)]
        lines.append(f"| {bare} | {_percentiles(found[bare])} | 1 |")
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {ours} | {_percentiles(found[ours])} | {spread} |")
    lines += ["", f"| {IN_FLIGHT} in flight | a second |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.1f} |" for name, value in rates.items()]
    lines += ["", "| Memory with two models | MiB (PSS) |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.0f} |" for name, value in sizes.items()]
    lines += ["", "| P3 through the gateway | p50 ms | a second, 8 in flight |", "| --- | ---: | ---: |"]
    lines += [f"| detect on {name} | {median:.1f} | {load:.1f} |" for name, (median, load) in pipelines.items()]
    return "\n".join([*lines, ""])


def _percentiles(rounds: list[list[float]]) -> str:
    every = [value for each in rounds for value in each]
    return f"{percentile(every, 50):.2f} | {percentile(every, 95):.2f}"


def _milliseconds(look: Look) -> float:
    start = perf_counter()
    look()
    return (perf_counter() - start) * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few requests only: shows that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args()
    amount = QUICK if options.quick else FULL
    environment = read_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put_network(folder / "models")
        server = Triton(folder / "triton", folder / "models")
        try:
            server.start()
            pixels = Pixels(np.random.default_rng(4).integers(0, 256, (600, 800, 3), dtype=np.uint8))
            with ways(server.url, ModelRepository(folder / "models"), pixels) as looks:
                counts = {way: look() for way, look in looks.items()}
                if len(set(counts.values())) != 1 or not min(counts.values()):
                    print(f"the ways do not find the same: {counts}", file=sys.stderr)
                    return 1
                found = times(looks, amount)
                rates = {way: rate(look, amount) for way, look in looks.items() if "Triton" in way or "triton" in way}
            sizes = memory(folder / "models", server)
            text = report(environment, found, rates, sizes, whole(server.url, amount))
        except CannotStart as exc:
            print(f"needs a Triton: {exc}", file=sys.stderr)
            return 1
        finally:
            server.stop()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "triton.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
