"""Settings that change in their directory while the orchestrator serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from orchestrator_calls import CREATE, PROCESS, definition, image
from orchestrator_scripted import eventually, lines, step
from orchestrator_served import Served, refused, served
from test_app import process, ready_line

from imageflow_common.errors import Overloaded
from tests.mounted import Mounted


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path / "settings", max_running_executions=1, max_waiting_executions=1)


@pytest.fixture
async def following(tmp_path: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """An orchestrator whose bounds are those of the directory."""
    monkeypatch.setenv("IMAGEFLOW_SETTINGS_DIRECTORY", str(mounted.path))
    async with served(tmp_path, settings_poll_seconds=0.05) as at, at.orchestrator.settings.watched():
        await eventually(lambda: at.orchestrator.engine.admission.max_running == 1)
        await at.json(CREATE, definition(step("a", "wait")))
        yield at
        at.lock.opened.set()


async def test_a_raised_bound_gives_those_who_wait_their_turn_at_once(following: Served, mounted: Mounted) -> None:
    at, admission = following, following.orchestrator.engine.admission
    calls = [asyncio.ensure_future(at.call(PROCESS, pipeline_id="p", body=image())) for _ in range(2)]
    await eventually(lambda: (admission.running, admission.waiting) == (1, 1))
    assert type(await refused(lambda: at.call(PROCESS, pipeline_id="p", body=image()))) is Overloaded

    mounted.put(max_running_executions=2, max_waiting_executions=1)

    await eventually(lambda: (admission.running, admission.waiting) == (2, 0))
    at.lock.opened.set()
    assert {answer.content_type for answer in await asyncio.gather(*calls)} == {"image/png"}


async def test_a_bound_below_what_runs_and_waits_lets_it_end_and_takes_no_more(
    following: Served, mounted: Mounted
) -> None:
    at, admission = following, following.orchestrator.engine.admission
    mounted.put(max_running_executions=3, max_waiting_executions=2)
    await eventually(lambda: admission.max_running == 3)
    calls = [asyncio.ensure_future(at.call(PROCESS, pipeline_id="p", body=image())) for _ in range(5)]
    await eventually(lambda: (admission.running, admission.waiting) == (3, 2))

    mounted.put(max_running_executions=1, max_waiting_executions=1, max_pending_executions=3)
    await eventually(lambda: at.orchestrator.executions.max_pending == 3)

    assert (admission.running, admission.waiting) == (3, 2)
    assert type(await refused(lambda: at.call(PROCESS, pipeline_id="p", body=image()))) is Overloaded
    at.lock.opened.set()
    assert {answer.content_type for answer in await asyncio.gather(*calls)} == {"image/png"}
    assert (await at.call(PROCESS, pipeline_id="p", body=image())).content_type == "image/png"


async def test_a_faulty_change_is_refused_and_readiness_and_the_dependencies_say_why(
    following: Served, mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    at, admission = following, following.orchestrator.engine.admission

    mounted.put(max_running_executions=9, max_waiting_executions="few")
    await eventually(lambda: bool(at.orchestrator.settings.fault))

    ready = await at.call("SystemService/GetReadiness")
    [fault] = ready.degraded
    assert (ready.status, admission.max_running) == ("ready", 1)
    assert "IMAGEFLOW_MAX_WAITING_EXECUTIONS: " in fault
    told = {each.kind: each for each in (await at.call("SystemService/GetDependencies")).dependencies}
    assert (told["settings"].well, told["settings"].reason) == (False, at.orchestrator.settings.fault)

    mounted.remove()
    await eventually(lambda: "No such file" in at.orchestrator.settings.fault)
    mounted.put(max_running_executions=9)
    await eventually(lambda: admission.max_running == 9)
    assert (await at.call("SystemService/GetReadiness")).degraded == []
    assert len(lines(caplog, "settings.refused")) == 2


async def test_a_process_takes_over_what_changes_and_says_so(tmp_path: Path, mounted: Mounted) -> None:
    given = {"port": 0, "settings_directory": mounted.path, "settings_poll_seconds": 0.05}
    async with process(tmp_path, **given) as started:
        await ready_line(started)

        mounted.put(max_running_executions=4, max_waiting_executions=1, log_level="WARNING", s3_secret_key="hidden")

        assert started.stderr is not None
        said: dict[str, Any] = {}
        async for line in started.stderr:
            said[json.loads(line)["message"]] = json.loads(line)
            if "settings.needs_restart" in said:
                break
    assert said["settings.changed"]["changed"] == {
        "IMAGEFLOW_LOG_LEVEL": "WARNING",
        "IMAGEFLOW_MAX_RUNNING_EXECUTIONS": 4,
    }
    assert said["settings.needs_restart"]["names"] == ["IMAGEFLOW_S3_SECRET_KEY"]
    assert "hidden" not in str(said)


async def test_a_process_does_not_start_with_faulty_ones(tmp_path: Path, mounted: Mounted) -> None:
    mounted.put(max_running_executions=0)
    async with process(tmp_path, port=0, settings_directory=mounted.path) as started:
        _, said = await started.communicate()

    assert started.returncode == 78
    assert said.startswith(b"IMAGEFLOW_MAX_RUNNING_EXECUTIONS: ")
    assert len(said.splitlines()) == 1
