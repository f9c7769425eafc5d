"""Measures the broker's part: a message sent beside bare kafka-python, and a request by message from end to end.

    python -m benchmarks.bus [--quick] [--output DIR]

Writes bus.md. Both senders take turns in one process, against one broker, a message of 300 bytes at a time, each
awaited before the next. A request runs P3 on the coins; its time is from sending to the completion's being heard by a
client of Kafka; once with objects in a local directory, and once in a bucket of MinIO. Needs a real broker and a real
MinIO, which it starts, and a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import psutil
from kafka import KafkaConsumer, KafkaProducer

from backends.kafka import KafkaServer
from backends.minio import MinIO
from imageflow_common.kafka_sender import KafkaSender, Outgoing
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics

from .environment import read_environment
from .photograph import coins_jpeg
from .product import product
from .samples import percentile
from .workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
BODY = b"x" * 300
HEADERS = (("content-type", b"application/json"), ("imageflow-event-number", b"1"))


@dataclass(frozen=True, slots=True)
class Amount:
    rounds: int
    sent: int
    requests: int
    at_once: int


FULL = Amount(rounds=9, sent=300, requests=60, at_once=400)
QUICK = Amount(rounds=2, sent=20, requests=3, at_once=10)


async def sending(settings: KafkaSettings, amount: Amount) -> tuple[list[float], list[float]]:
    """Milliseconds of each message: bare, and ours."""
    topic = settings.topic("measured")
    bare, ours = KafkaProducer(**settings.client_options(), metrics_enabled=False), KafkaSender(settings)
    alone: list[float] = []
    through: list[float] = []
    for _ in range(amount.rounds):
        for _ in range(amount.sent):
            begun = perf_counter()
            bare.send(topic, BODY, b"key", list(HEADERS)).get(timeout=10)
            alone.append((perf_counter() - begun) * 1e3)
        for _ in range(amount.sent):
            begun = perf_counter()
            await ours.send(Outgoing(topic, b"key", BODY, HEADERS))
            through.append((perf_counter() - begun) * 1e3)
    bare.close(timeout=2)
    await ours.close()
    return alone[amount.sent :], through[amount.sent :]  # the first round warms both up


class Completions:
    """When each was heard, by a thread with a consumer of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._heard: dict[str, float] = {}
        self._news = threading.Condition()
        self._stop = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(settings,), daemon=True)
        self._thread.start()
        self._ready.wait(30)

    def at(self, name: str) -> float:
        """Waits for it."""
        with self._news:
            if not self._news.wait_for(lambda: name in self._heard, timeout=120):
                raise TimeoutError(f"{name} has not ended")
            return self._heard[name]

    def close(self) -> None:
        self._stop = True
        self._thread.join()

    def _listen(self, settings: KafkaSettings) -> None:
        consumer = KafkaConsumer("pipeline-completions", **settings.client_options(), metrics_enabled=False)
        while not consumer.assignment():
            consumer.poll(timeout_ms=100)
        self._ready.set()
        while not self._stop:
            for records in consumer.poll(timeout_ms=100).values():
                for record in records:
                    body = json.loads(record.value)
                    if body["status"] != "completed":
                        raise SystemExit(f"a request failed: {body}")
                    with self._news:
                        self._heard[body["execution_id"]] = perf_counter()
                        self._news.notify_all()
        consumer.close()


@dataclass(frozen=True, slots=True)
class Served:
    """`one_by_one` in milliseconds, and of each where it went; `per_second` with many requests waiting, while so many
    `cores` were busy, of which the orchestrator's process took so much."""

    one_by_one: list[float]
    parts: list[dict[str, float]]
    per_second: float
    cores: float
    orchestrator_cores: float


def requests(settings: KafkaSettings, amount: Amount, environment: Mapping[str, str]) -> Served:
    """P3, by message. Raises NotStarted."""
    with product(shared_memory=True, kafka=settings.bootstrap_servers, environment=environment) as running:
        upload = urllib.request.Request(
            f"{running.url}/v1/images/coins.jpg", coins_jpeg(), {"Content-Type": "image/jpeg"}, method="PUT"
        )
        urllib.request.urlopen(upload, timeout=30).close()
        completions, sender = Completions(settings), KafkaProducer(**settings.client_options())
        run = uuid.uuid4().hex[:8]

        def send(name: str) -> str:
            sender.send("pipeline-executions", json.dumps(_request(name)).encode(), name.encode()).get(timeout=10)
            return name

        completions.at(send(f"{run}-warm"))
        waited, parts = list[float](), list[dict[str, float]]()
        for number in range(amount.requests):
            begun = perf_counter()
            waited.append((completions.at(send(f"{run}-one-{number}")) - begun) * 1e3)
            parts.append(_parts(running.url, f"{run}-one-{number}", waited[-1]))
        orchestrator = psutil.Process(running.pids["orchestrator"])
        begun, busy, own = perf_counter(), _busy_seconds(), _used_seconds(orchestrator)
        names = [send(f"{run}-many-{number}") for number in range(amount.at_once)]
        seconds = max(completions.at(name) for name in names) - begun
        busy, own = _busy_seconds() - busy, _used_seconds(orchestrator) - own
        completions.close()
        sender.close(timeout=2)
        return Served(waited, parts, amount.at_once / seconds, busy / seconds, own / seconds)


def _busy_seconds() -> float:
    """Of all cores, by whatever runs."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait)


def _used_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _parts(url: str, name: str, waited_ms: float) -> dict[str, float]:
    """Where a request's time went, as its record says; what is left is the broker's, and acceptance's."""
    with urllib.request.urlopen(f"{url}/v1/executions/{name}", timeout=30) as answer:
        execution = json.load(answer)
    timings = execution["timings"]
    own = {"store": timings["storeMs"], "orchestrator": timings["overheadMs"] + timings["planMs"] + timings["queueMs"]}
    steps = execution["executionTimeMs"] - timings["storeMs"] - timings["overheadMs"]
    inside = {**own, "steps": steps}
    return {**inside, "broker and acceptance": waited_ms - sum(inside.values())}


def _request(name: str) -> dict[str, Any]:
    definition = next(each for each in WORKLOADS if each.name == "P3").definition()
    return {"execution_id": name, "pipeline_config": definition, "input_data": {"input_path": "coins.jpg"}}


def report(alone: list[float], through: list[float], served: Mapping[str, Served]) -> str:
    where = read_environment()
    ratio = percentile(through, 50) / percentile(alone, 50)
    heads = [
        "P3 by message, sent → completion heard, objects in",
        "p50 ms",
        "p95 ms",
        f"a second, {FULL.at_once} waiting",
    ]
    heads += ["cores busy then", "of them the orchestrator"]
    rows = "".join(
        f"| {name} | {percentile(each.one_by_one, 50):.0f} | {percentile(each.one_by_one, 95):.0f} | "
        f"{each.per_second:.1f} | {each.cores:.2f} | {each.orchestrator_cores:.2f} |\n"
        for name, each in served.items()
    )
    shares = "".join(
        f"| {part} | {' | '.join(f'{mean(one[part] for one in each.parts):.1f}' for each in served.values())} |\n"
        for part in next(iter(served.values())).parts[0]
    )
    return f"""# The broker's part

{where.date}, commit {where.commit}, {where.cpu}, {where.cores} cores, {where.system}, Python {where.python}; load
average at the start {where.load_average}.

| A message of 300 bytes, acknowledged | p50 ms | p95 ms |
| --- | --- | --- |
| bare kafka-python, blocking | {percentile(alone, 50):.2f} | {percentile(alone, 95):.2f} |
| `KafkaSender`, awaited | {percentile(through, 50):.2f} | {percentile(through, 95):.2f} |

Ours takes {ratio:.2f} times as long at p50.

| {" | ".join(heads)} |
| --- | ---: | ---: | ---: | ---: | ---: |
{rows}
| Where the time of one goes, mean ms | {" | ".join(served)} |
| --- |{" ---: |" * len(served)}
{shares}"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bus", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shows that it works, measures nothing")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    amount = QUICK if asked.quick else FULL
    with tempfile.TemporaryDirectory(prefix="imageflow-benchmark-kafka-") as folder:
        server, minio = KafkaServer(Path(folder) / "kafka"), MinIO(Path(folder) / "minio")
        try:
            server.start()
            minio.start()
            settings = KafkaSettings.model_construct(bootstrap_servers=server.bootstrap_servers)
            create_topics(settings, ["measured"], partitions=1)
            alone, through = asyncio.run(sending(settings, amount))
            places = {"a local directory": {}, "MinIO": minio.settings()}
            served = {name: requests(settings, amount, environment) for name, environment in places.items()}
        finally:
            server.kill()
            minio.kill()
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "bus.md").write_text(report(alone, through, served))
    print((asked.output / "bus.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
