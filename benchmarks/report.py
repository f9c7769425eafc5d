"""A measurement as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from .environment import Environment
from .results import Results
from .samples import PARTS
from .workloads import LABELS, SERVED, VARIANTS, WORKLOADS, Variant


def as_json(results: Results) -> str:
    """All figures, with the derived ones beside what they are derived from."""
    derived = {
        workload.name: {
            variant: {
                "overhead_ms": results.overhead_ms(workload.name, variant),
                "overhead_ms_by_round": results.overhead_by_round(workload.name, variant),
                "share_of_throughput": results.share_of_throughput(workload.name, variant),
                "share_of_one_process": results.share_of_one_process(workload.name, variant),
            }
            for variant in SERVED
        }
        for workload in WORKLOADS
    }
    document = {**asdict(results), "derived": derived, "errors": results.errors}
    return json.dumps(_rounded(document), indent=1) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {str(key): _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value


def as_markdown(results: Results) -> str:
    sections = (
        ("Latency, one request at a time (ms)", _latency(results)),
        ("Throughput (requests/s)", _throughput(results)),
        ("Where the time goes, one request at a time (mean ms)", _breakdown(results)),
        ("Processor time (ms a request)", _cpu(results)),
        ("Memory (MB)", _memory(results)),
        ("Start", _start(results)),
        ("Environment", _environment(results.environment)),
    )
    body = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections)
    return f"# Pipelines\n\n{_head(results)}\n\n![Overhead and throughput](pipelines.png)\n\n{body}\n"


def _head(results: Results) -> str:
    amount, telemetry = results.amount, "on" if results.environment.telemetry else "off"
    return (
        f"`make bench`: {amount.rounds} rounds of {amount.requests} requests and {amount.load_seconds:g} s of each "
        f"load, on a 1080p JPEG of {results.input_bytes / 1e3:.0f} kB, telemetry {telemetry}. All three ways gave "
        f"the same bytes in every round. Errors: {results.errors}. How to read this: [README](../README.md)."
    )


def _latency(results: Results) -> Iterator[str]:
    rows: list[list[str]] = []
    for workload in WORKLOADS:
        for variant in VARIANTS:
            measured = results.of(workload.name, variant)
            times = measured.latency
            row = [workload.title, LABELS[variant], f"{times.p50_ms:.2f}", f"{times.p95_ms:.2f}"]
            if variant == "functions":
                rows.append([*row, "", ""])
                continue
            by_round = results.overhead_by_round(workload.name, variant)
            added = f"{results.overhead_ms(workload.name, variant):.2f}"
            rows.append([*row, added, f"{min(by_round):.2f} … {max(by_round):.2f}"])
    return _table(["pipeline", "", "p50", "p95", "overhead at p50", "of single rounds"], rows, text=2)


def _throughput(results: Results) -> Iterator[str]:
    numbers = results.amount.in_flight
    rows: list[list[str]] = []
    for workload in WORKLOADS:
        bare = results.of(workload.name, "functions")
        assert bare.threaded is not None
        one, all_cores = f"{bare.threaded.per_second:.1f}", f"{bare.best_per_second:.1f}"
        rows.append([workload.title, LABELS["functions"], f"{bare.loads[1].per_second:.1f}"])
        rows[-1] += [one for _ in numbers[1:]] + ["1.00", "", str(bare.errors)]
        rows.append([workload.title, "a, a process for each core", ""])
        rows[-1] += [all_cores for _ in numbers[1:]] + ["", "1.00", str(bare.errors)]
        for variant in SERVED:
            measured = results.of(workload.name, variant)
            rates = [f"{measured.loads[number].per_second:.1f}" for number in numbers]
            shares = [
                f"{share(workload.name, variant):.2f}"
                for share in (results.share_of_one_process, results.share_of_throughput)
            ]
            rows.append([workload.title, LABELS[variant], *rates, *shares, str(measured.errors)])
    columns = [f"{number} in flight" for number in numbers]
    return _table(["pipeline", "", *columns, "share of a", "of a process for each core", "errors"], rows, text=2)


def _breakdown(results: Results) -> Iterator[str]:
    rows: list[list[str]] = []
    for workload in WORKLOADS:
        for variant in VARIANTS:
            times = results.of(workload.name, variant).latency
            parts = [_milliseconds(times.parts_ms[part]) for part in PARTS]
            rows.append([workload.title, LABELS[variant], *parts, f"{times.mean_ms:.2f}"])
    return _table(["pipeline", "", *PARTS, "wall"], rows, text=2)


def _milliseconds(value: float) -> str:
    return f"{value:.2f}" if value else ""


def _cpu(results: Results) -> Iterator[str]:
    names = list(dict.fromkeys(name for each in results.measured for cpu in each.cpu_ms.values() for name in cpu))
    rows: list[list[str]] = []
    for workload in WORKLOADS:
        for variant in VARIANTS:
            for number, cpu in results.of(workload.name, variant).cpu_ms.items():
                cells = [_milliseconds(cpu.get(name, 0.0)) for name in names]
                total = sum(value for name, value in cpu.items() if name != "client")
                rows.append([workload.title, LABELS[variant], str(number), *cells, f"{total:.2f}"])
    return _table(["pipeline", "", "in flight", *names, "all but client"], rows, text=2)


def _memory(results: Results) -> Iterator[str]:
    names = list(dict.fromkeys(name for memory in results.memory.values() for name in memory.pss_bytes))
    rows: list[list[str]] = []
    for variant, memory in results.memory.items():
        cells = [f"{memory.pss_bytes[name] / 1e6:.0f}" if name in memory.pss_bytes else "" for name in names]
        shared = f"{memory.shared_bytes / 1e6:.2f}" if variant != "functions" else ""
        rows.append([LABELS[variant], *cells, shared, f"{memory.total_bytes / 1e6:.0f}"])
    return _table(["", *names, "shared memory", "all"], rows, text=1)


def _start(results: Results) -> Iterator[str]:
    rows = [[LABELS[v], *(f"{seconds:.2f}" for seconds in each)] for v, each in results.start_seconds.items()]
    columns = [f"start {number} (s)" for number in range(1, results.amount.starts + 1)]
    return _table(["", *columns], rows, text=1)


def _environment(environment: Environment) -> Iterator[str]:
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    rows = [
        ["date", environment.date],
        ["commit", environment.commit],
        ["processor", f"{environment.cpu}, {environment.cores} cores"],
        ["system", f"{environment.system}, Python {environment.python}"],
        ["packages", packages],
        ["load average at start", f"{environment.load_average:.2f}"],
        ["telemetry", "on" if environment.telemetry else "off"],
    ]
    return _table(["", ""], rows, text=2)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, text: int) -> Iterator[str]:
    """The first `text` columns to the left, figures to the right."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'|'.join('---' if number < text else '--:' for number in range(len(columns)))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def headline(results: Results, variant: Variant = "shared") -> Iterator[str]:
    """What matters most, a line a pipeline."""
    for workload in WORKLOADS:
        yield (
            f"{workload.title}: {results.of(workload.name, variant).latency.p50_ms:.2f} ms, "
            f"{results.overhead_ms(workload.name, variant):.2f} ms of it overhead; "
            f"{results.share_of_throughput(workload.name, variant):.0%} of the functions' throughput"
        )
