"""Measures pipelines served by `imageflow up` beside the same functions called in one process.

    python -m benchmarks.pipelines [--quick] [--rounds N] [--output DIR]

Writes pipelines.md, pipelines.json and pipelines.png. Ends with status 1 when a request failed, or when the ways to
run a pipeline did not give the same bytes. README.md says what is measured.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from .environment import read_environment
from .measure import measure
from .report import as_json, as_markdown, headline
from .results import FULL, QUICK, Amount, Results

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Answers the exit status."""
    options = _parser().parse_args(arguments)
    results = measure(_amount(options), read_environment(), say=_say)
    options.output.mkdir(parents=True, exist_ok=True)
    write(results, options.output)
    for line in headline(results):
        print(line)
    print(f"errors: {results.errors}; see {options.output}")
    return 1 if results.errors else 0


def write(results: Results, folder: Path) -> None:
    """Writes the report, the figures and the picture, over those of the run before."""
    from .plot import draw  # matplotlib would take part in what is measured

    (folder / "pipelines.md").write_text(as_markdown(results), encoding="utf-8")
    (folder / "pipelines.json").write_text(as_json(results), encoding="utf-8")
    draw(results, folder / "pipelines.png")


def _amount(options: argparse.Namespace) -> Amount:
    amount = QUICK if options.quick else FULL
    return replace(amount, rounds=options.rounds or amount.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipelines",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a few requests only: shows that it works")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help=f"how often ({FULL.rounds})")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="where to (benchmarks/results)")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
