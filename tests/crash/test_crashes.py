"""An orchestrator that is killed loses nothing, repeats nothing that is stored, and tells each end once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pytest

from .matrix import Tally, crash_matrix
from .points import OUTSIDE, POINTS
from .proving import PROVE, WHOLE, share_of, table, write_report
from .shapes import SHAPES, reference

SEED = int(os.environ.get("CRASH_SEED", "1"))
KILLS = 20
ROUNDS = share_of(16) if PROVE else 1


@pytest.mark.timeout(3600 if PROVE else 120)
async def test_every_accepted_execution_ends_right_however_often_the_orchestrator_is_killed(tmp_path: Path) -> None:
    references = {shape.name: await reference(shape) for shape in SHAPES}
    tallies = []
    for seed in range(SEED, SEED + ROUNDS):
        print(f"CRASH_SEED={seed}", flush=True)
        tally = await crash_matrix(tmp_path / f"round-{seed}", references, seed=seed, kills=KILLS)
        assert not tally.faults, "\n".join([f"CRASH_SEED={seed}", *tally.faults])
        assert len(tally.kills) == KILLS
        tallies.append(tally)
    kills = [kill for tally in tallies for kill in tally.kills]
    assert sum(kill.inside for kill in kills) >= 0.8 * len(kills)
    if WHOLE:
        assert {kill.point for kill in kills} >= set(POINTS)
        report(tallies)


def report(tallies: Sequence[Tally]) -> None:
    kills = [kill for tally in tallies for kill in tally.kills]
    recovery = sorted(seconds for kill in kills for seconds in kill.recovery_seconds)
    executions = sum(tally.executions for tally in tallies)
    figures = [
        ("kills", len(kills)),
        ("of them while an accepted execution had not ended", f"{sum(k.inside for k in kills)} ({_share(kills)})"),
        ("executions", executions),
        ("lost", 0),
        ("ended otherwise than they should", 0),
        ("outputs whose SHA-256 is not that of the same pipeline run in one process", 0),
        ("objects in the store that are damaged", 0),
        ("steps that were stored as finished, and ran again", 0),
        ("executions with more or fewer than one completion, by number", 0),
        ("markers, images in shared memory left", 0),
        ("calls of steps beyond the first, in all", _sum(tallies, "repeated_calls")),
        ("of them retries of a step that is told to fail at first", _sum(tallies, "told_to_fail")),
        ("kill to next work on what was interrupted, median", f"{median(recovery):.2f} s"),
        ("the same, 95 of 100", f"{recovery[int(len(recovery) * 0.95)]:.2f} s"),
        ("the same, longest", f"{recovery[-1]:.2f} s"),
    ]
    counts = Counter((kill.point, kill.inside) for kill in kills)
    points = [
        (point, counts[point, True] + counts[point, False], counts[point, True], "outside" if point in OUTSIDE else "")
        for point in (*POINTS, "at random")
    ]
    write_report(
        "crashes",
        "Killed at every point",
        "An orchestrator is killed with SIGKILL, started again on the same data and killed again, while clients create "
        f"executions of {len(SHAPES)} shapes (a line, branches, a step that only looks, retries, a failure passed "
        "over, a failure). Half of the kills are at named points, before, within and after each write, call and "
        "notice; half at random moments. Figures of what must not be are asserted to be 0. Interrupted is "
        "what was accepted and not done with; the time until it is worked on again includes the start of the process, "
        "and further kills before that. A kill is outside where what it hits has not been accepted yet, or is done.",
        table(("", ""), figures),
        table(("point", "kills", "in running work", ""), points),
        f"Again: `CRASH_SEED={tallies[0].seed} make prove`. Each seed from there on is one data directory.",
    )


def _share(kills: Sequence[object]) -> str:
    return f"{100 * sum(kill.inside for kill in kills) / len(kills):.0f} %"  # type: ignore[attr-defined]


def _sum(tallies: Sequence[Tally], what: str) -> int:
    return sum(getattr(tally, what) for tally in tallies)
