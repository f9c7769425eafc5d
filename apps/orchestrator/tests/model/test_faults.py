"""The model-based tests would find a fault: every one that is put into a copy of the state machine is found."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from imageflow_orchestrator.component_spec import Catalog
from imageflow_orchestrator.plan import Plan

from .dag import Dag, planned, random_dag
from .drive import Api, Drive, RandomDriver
from .faults import FAULTS, Fault, copied

_SEEDS = range(1_000)


@pytest.fixture(scope="module")
def pipelines(catalog: Catalog) -> list[tuple[Dag, Plan]]:
    return [planned(random_dag(Random(seed)), catalog) for seed in _SEEDS]


def first_found(api: Api, pipelines: list[tuple[Dag, Plan]]) -> int | None:
    """The first seed under which something is wrong."""
    for seed in _SEEDS:
        try:
            RandomDriver(Drive(api, *pipelines[seed]), Random(seed)).run()
        except Exception:
            return seed
    return None


def test_a_copy_without_a_fault_passes(folder: Path, pipelines: list[tuple[Dag, Plan]]) -> None:
    assert first_found(copied(folder), pipelines) is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.says)
def test_a_fault_is_found(fault: Fault, folder: Path, pipelines: list[tuple[Dag, Plan]]) -> None:
    assert first_found(copied(folder, fault), pipelines) is not None
