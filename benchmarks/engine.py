"""Measures what the engine costs beside the work of components: its steps, its plans, and taking up what was left.

    python -m benchmarks.engine [--quick] [--output DIR]

Writes engine.md and engine.json. The engine runs in this process, with nothing before it; the component that does
nothing is a process of its own, and so is a grpc.aio server that echoes the same bytes. README.md says more.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from .engine_plans import SCHEDULED_STEPS, scheduling_us, validated
from .engine_report import Figures, as_markdown
from .engine_resume import resume_seconds
from .engine_site import site
from .engine_steps import echo_times, step_times, sustained
from .environment import read_environment
from .samples import percentile

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured."""

    steps: int = 5_000
    sustained_seconds: float = 15.0
    plans: int = 15
    executions: int = 1_000


QUICK = Amount(steps=100, sustained_seconds=0.5, plans=1, executions=10)


async def measure(amount: Amount) -> Figures:
    environment = read_environment()
    async with site() as running:
        times, alone = await step_times(running, amount.steps)
        echo = await echo_times(amount.steps)
        rate = await sustained(running, amount.sustained_seconds)
        plans = validated(running, amount.plans)
        scheduling = {size: scheduling_us(running, size, max(1, amount.plans // 3)) for size in SCHEDULED_STEPS}
        resumed = await resume_seconds(running, amount.executions)
    return Figures(
        environment=environment,
        step_ms={name: percentile(times, percent) for name, percent in (("p50", 50), ("p99", 99))},
        echo_ms={name: percentile(echo, percent) for name, percent in (("p50", 50), ("p99", 99))},
        engine_cpu_ms=alone.engine_cpu_ms(),
        component_cpu_ms=alone.component_cpu_ms(),
        steps_per_second=rate.per_second,
        validation_ms={shape: percentile(each, 50) for shape, each in plans.items()},
        scheduling_us={size: percentile(each, 50) for size, each in scheduling.items()},
        resumed_executions=amount.executions,
        resume_seconds=resumed,
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a little of each: shows that it works")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="where to (benchmarks/results)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    figures = uvloop.run(measure(QUICK if options.quick else Amount()))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "engine.json").write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")
    (options.output / "engine.md").write_text(as_markdown(figures), encoding="utf-8")
    print(as_markdown(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
