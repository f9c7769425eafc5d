"""Performs the measurement: starts what is measured, and takes the ways to run a pipeline in turn."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from . import client, functions
from .environment import Environment, core_count
from .photograph import coins_jpeg
from .product import Product, product
from .resources import cpu_seconds, folder_bytes, pss_bytes, spent
from .results import Amount, Latency, Measured, Memory, Results, latency
from .samples import Block, Load, Sample, in_turn, together
from .worker import Worker
from .workloads import SERVED, VARIANTS, WORKLOADS, Variant, Workload

_BEGIN_SECONDS = 0.1
"""From telling processes to begin to their beginning together."""

Say = Callable[[str], None]


class WrongOutput(Exception):
    """Served pipelines did not answer what the bare functions do, or found nothing."""


@dataclass(slots=True)
class _Gathered:
    """One pipeline, run one way, so far."""

    rounds: list[tuple[Sample, ...]] = field(default_factory=list)
    loads: dict[int, list[Load]] = field(default_factory=lambda: defaultdict(list))
    threaded: list[Load] = field(default_factory=list)
    cpu_seconds: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    requests: Counter[int] = field(default_factory=Counter)
    last: Block = field(default_factory=lambda: Block((), b"", 0))

    def measured(self, workload: Workload, variant: Variant) -> Measured:
        times: Latency = latency(self.rounds)
        return Measured(
            workload=workload.name,
            variant=variant,
            latency=times,
            detections=self.last.detections,
            output_bytes=len(self.last.output),
            loads={number: in_turn(loads) for number, loads in self.loads.items()},
            threaded=in_turn(self.threaded) if self.threaded else None,
            cpu_ms={
                number: {name: 1e3 * seconds / self.requests[number] for name, seconds in by_process.items()}
                for number, by_process in self.cpu_seconds.items()
                if self.requests[number]
            },
        )


class _Bench:
    """Everything that runs during the rounds."""

    def __init__(
        self, amount: Amount, jpeg: bytes, bare: list[Worker], caller: Worker, products: Mapping[Variant, Product]
    ) -> None:
        self._amount = amount
        self._jpeg = jpeg
        self._bare = bare
        self._caller = caller
        self._products = products
        self.gathered: dict[tuple[Workload, Variant], _Gathered] = defaultdict(_Gathered)

    def take_turns(self, workload: Workload) -> None:
        """One round of one pipeline, each way in turn. Raises WrongOutput."""
        for variant in VARIANTS:
            self._block(workload, variant)
        self._check(workload)
        for number in self._amount.in_flight:
            for variant in VARIANTS:
                self._load(workload, variant, number)

    def _block(self, workload: Workload, variant: Variant) -> None:
        gathered, amount = self.gathered[workload, variant], self._amount
        with self._counting_cpu(gathered, variant, 1):
            if variant == "functions":
                block = self._bare[0].call(
                    functions.run_block, workload, self._jpeg, warm_up=amount.warm_up, count=amount.requests
                )
            else:
                url = self._products[variant].url
                block = self._caller.call(
                    client.run_block, url, workload, self._jpeg, warm_up=amount.warm_up, count=amount.requests
                )
        gathered.requests[1] += amount.warm_up + amount.requests
        gathered.rounds.append(block.samples)
        gathered.last = block

    def _load(self, workload: Workload, variant: Variant, in_flight: int) -> None:
        """The functions run in one thread beside one in flight, and on all cores, once, beside more: in a process for
        each core, and in one process with two threads for each."""
        gathered, seconds = self.gathered[workload, variant], self._amount.load_seconds
        if variant == "functions":
            processes = 1 if in_flight == 1 else len(self._bare)
            if in_flight > 1 and in_flight != min(each for each in self._amount.in_flight if each > 1):
                return
            gathered.loads[processes].append(self._bare_load(workload, processes))
            if in_flight > 1:
                threads = 2 * len(self._bare)
                load = self._bare[0].call(
                    functions.run_threaded_load, workload, self._jpeg, threads=threads, seconds=seconds
                )
                gathered.threaded.append(load)
            return
        expected = gathered.last.output
        with self._counting_cpu(gathered, variant, in_flight, when=in_flight > 1):
            load = self._caller.call(
                client.run_load,
                self._products[variant].url,
                workload,
                self._jpeg,
                expected,
                in_flight=in_flight,
                seconds=seconds,
            )
        if in_flight > 1:
            gathered.requests[in_flight] += load.completed
        gathered.loads[in_flight].append(load)

    def _bare_load(self, workload: Workload, processes: int) -> Load:
        start = time.perf_counter() + _BEGIN_SECONDS
        running = [
            worker.start(functions.run_load, workload, self._jpeg, start=start, seconds=self._amount.load_seconds)
            for worker in self._bare[:processes]
        ]
        return together([result() for result in running])

    @contextmanager
    def _counting_cpu(self, to: _Gathered, variant: Variant, number: int, *, when: bool = True) -> Iterator[None]:
        pids = {"functions": self._bare[0].pid}
        if variant != "functions":
            pids = {**self._products[variant].pids, "client": self._caller.pid}
        before = cpu_seconds(pids)
        yield
        if when:
            to.cpu_seconds[number].update(spent(before, cpu_seconds(pids)))

    def _check(self, workload: Workload) -> None:
        bare = self.gathered[workload, "functions"].last
        for variant in SERVED:
            served = self.gathered[workload, variant].last
            if served.output != bare.output or served.detections != bare.detections:
                raise WrongOutput(f"{workload.title}: {variant} differs from the bare functions")
        if workload.finds and not bare.detections:
            raise WrongOutput(f"{workload.title}: nothing was detected")


def measure(amount: Amount, environment: Environment, say: Say) -> Results:
    """The whole measurement. Raises WrongOutput, NotStarted, UnexpectedAnswer."""
    with Worker() as maker:
        jpeg = maker.call(coins_jpeg)
    say(f"photograph: {len(jpeg) / 1e3:.0f} kB; telemetry is {'on' if environment.telemetry else 'off'}")
    starts: dict[Variant, tuple[float, ...]] = {}
    memory: dict[Variant, Memory] = {"functions": _memory_of_functions(amount, jpeg)}
    for variant in SERVED:
        starts[variant], memory[variant] = _starts(amount, jpeg, variant)
        say(f"{variant}: ready after {', '.join(f'{seconds:.2f}' for seconds in starts[variant])} s")
    gathered = _rounds(amount, jpeg, say)
    measured = tuple(each.measured(workload, variant) for (workload, variant), each in gathered.items())
    return Results(environment, amount, len(jpeg), measured, starts, memory)


def _rounds(amount: Amount, jpeg: bytes, say: Say) -> dict[tuple[Workload, Variant], _Gathered]:
    with ExitStack() as stack:
        products = {v: stack.enter_context(product(shared_memory=v == "shared")) for v in SERVED}
        caller = stack.enter_context(Worker())
        bare = [stack.enter_context(Worker()) for _ in range(core_count())]
        for each in products.values():
            caller.call(client.store_pipelines, each.url)
        bench = _Bench(amount, jpeg, bare, caller, products)
        for number in range(1, amount.rounds + 1):
            for workload in WORKLOADS:
                bench.take_turns(workload)
                say(f"round {number} of {amount.rounds}: {_summary(bench.gathered, workload)}")
        return bench.gathered


def _summary(gathered: Mapping[tuple[Workload, Variant], _Gathered], workload: Workload) -> str:
    medians = (latency(gathered[workload, variant].rounds[-1:]).p50_ms for variant in VARIANTS)
    return f"{workload.title}: p50 {' / '.join(f'{median:.2f}' for median in medians)} ms"


def _starts(amount: Amount, jpeg: bytes, variant: Variant) -> tuple[tuple[float, ...], Memory]:
    """Start times; and the last one's memory, with no other topology beside it to share pages with."""
    seconds: list[float] = []
    for _ in range(amount.starts - 1):
        with product(shared_memory=variant == "shared") as started:
            seconds.append(started.start_seconds)
    with product(shared_memory=variant == "shared") as started:
        seconds.append(started.start_seconds)
        with Worker() as caller:
            caller.call(client.store_pipelines, started.url)
            caller.call(client.run_block, started.url, WORKLOADS[-1], jpeg, warm_up=0, count=amount.memory_requests)
        time.sleep(amount.memory_pause_seconds)
        return tuple(seconds), Memory(pss_bytes(started.pids), folder_bytes(started.shared_directory))


def _memory_of_functions(amount: Amount, jpeg: bytes) -> Memory:
    with Worker() as bare:
        bare.call(functions.run_block, WORKLOADS[-1], jpeg, warm_up=0, count=amount.memory_requests)
        time.sleep(amount.memory_pause_seconds)
        return Memory(pss_bytes({"functions": bare.pid}), 0)
