"""What `imageflow up` does with processes that die, hang and talk."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imageflow_cli.child import Program, describe_end
from imageflow_cli.logsink import MAX_LINE_BYTES
from imageflow_cli.supervisor import RestartPolicy, Supervisor

from .conftest import Heard, eventually, is_alive

Script = Callable[..., Program]

QUICK = RestartPolicy(initial_seconds=0.01, longest_seconds=0.05, attempts=3)
FOREVER = "signal.pause()"


async def test_what_died_is_started_again_and_that_is_said(script: Script, heard: Heard) -> None:
    once = script(f"""
if not os.path.exists(here + "/died"):
    open(here + "/died", "w").close()
    sys.exit(3)
print("second life", flush=True)
{FOREVER}
""")
    async with Supervisor(heard.sink, QUICK) as supervisor:
        supervisor.start([once])
        await eventually(lambda: "second life" in heard.text)
        assert "fake exited with status 3 after" in heard.text
        assert "starting it again in 0.01 s" in heard.text


async def test_what_was_killed_is_started_again_as_another_process(script: Script, heard: Heard) -> None:
    async with Supervisor(heard.sink, QUICK) as supervisor:
        supervisor.start([script(FOREVER)])
        await eventually(lambda: supervisor.pids)
        first = supervisor.pids["fake"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.pids.get("fake", first) != first)
        assert "fake was ended by SIGKILL" in heard.text


async def test_what_dies_again_and_again_is_given_up(script: Script, heard: Heard) -> None:
    async with Supervisor(heard.sink, QUICK) as supervisor:
        supervisor.start([script("sys.exit(1)")])
        async with asyncio.timeout(10):
            gave_up = await supervisor.given_up()
        assert str(gave_up) == "fake exited with status 1, 3 times in a row: giving up"
        await eventually(lambda: str(gave_up) in heard.text)


async def test_wrong_settings_are_given_up_at_once(script: Script, heard: Heard) -> None:
    async with Supervisor(heard.sink) as supervisor:
        supervisor.start([script("sys.exit(78)")])
        async with asyncio.timeout(10):
            assert str(await supervisor.given_up()) == "fake exited with status 78: giving up"


async def test_a_program_that_is_not_there_is_given_up_at_once(heard: Heard) -> None:
    async with Supervisor(heard.sink) as supervisor:
        supervisor.start([Program("fake", ("no-such-program",))])
        async with asyncio.timeout(10):
            await supervisor.given_up()
        await eventually(lambda: "cannot run no-such-program: No such file or directory" in heard.text)


async def test_a_folder_that_is_not_there_is_given_up_at_once(heard: Heard, tmp_path: Path) -> None:
    async with Supervisor(heard.sink) as supervisor:
        supervisor.start([Program("fake", ("true",), directory=tmp_path / "none")])
        async with asyncio.timeout(10):
            assert "cannot be started" in str(await supervisor.given_up())


async def test_stop_lets_a_program_end_by_itself(script: Script, heard: Heard) -> None:
    polite = script(f"""
signal.signal(signal.SIGTERM, lambda *_: (print("goodbye", flush=True), sys.exit(0)))
print("up", flush=True)
{FOREVER}
""")
    async with Supervisor(heard.sink, QUICK) as supervisor:
        supervisor.start([polite])
        await eventually(lambda: "up" in heard.text)
        await supervisor.stop(["fake"])
        assert supervisor.pids == {}
    await eventually(lambda: "goodbye" in heard.text)
    assert "starting it again" not in heard.text


async def test_a_program_that_ignores_sigterm_is_killed_in_time_and_that_is_said(script: Script, heard: Heard) -> None:
    deaf = script(
        'signal.signal(signal.SIGTERM, signal.SIG_IGN); print("up", flush=True)\nwhile True: signal.pause()',
        stop_seconds=0.1,
    )
    async with Supervisor(heard.sink, QUICK) as supervisor:
        supervisor.start([deaf])
        await eventually(lambda: "up" in heard.text)
        pid = supervisor.pids["fake"]
        await supervisor.stop(["fake"])
        assert not is_alive(pid)
    await eventually(lambda: "fake did not end in time and was killed" in heard.text)


async def test_stop_does_not_wait_for_a_restart(script: Script, heard: Heard) -> None:
    slow = RestartPolicy(initial_seconds=60, longest_seconds=60)
    async with Supervisor(heard.sink, slow) as supervisor:
        supervisor.start([script("sys.exit(1)")])
        await eventually(lambda: "starting it again" in heard.text)
        async with asyncio.timeout(5):
            await supervisor.stop(["fake"])


async def test_nothing_is_left_behind_not_even_what_the_children_started(script: Script, heard: Heard) -> None:
    parent = script(f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("grandchild", child.pid, flush=True)
{FOREVER}
""")
    async with Supervisor(heard.sink, QUICK) as supervisor:
        supervisor.start([parent])
        await eventually(lambda: "grandchild" in heard.text)
        pids = [supervisor.pids["fake"], int(heard.text.split("grandchild ")[1])]
    await eventually(lambda: not any(is_alive(pid) for pid in pids))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
async def test_children_do_not_outlive_a_supervisor_that_is_killed(script: Script, tmp_path: Path) -> None:
    program = script(FOREVER)
    source = f"""
import asyncio, sys
from imageflow_cli.child import Program
from imageflow_cli.logsink import LogSink
from imageflow_cli.supervisor import Supervisor

async def main():
    def tell():
        print(*supervisor.pids.values(), flush=True)
    async with Supervisor(LogSink(sys.stderr, "text"), on_change=tell) as supervisor:
        supervisor.start([Program("fake", {program.command!r})])
        await asyncio.Event().wait()

asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await eventually(lambda: not is_alive(pid))


async def test_lines_of_different_children_are_never_mixed(script: Script, heard: Heard) -> None:
    source = """
for i in range(200):
    sys.stdout.write(mark * 3_000); sys.stdout.flush()
    sys.stdout.write(mark * 3_000 + "\\n"); sys.stdout.flush()
signal.pause()
"""
    programs = [script(f"mark = {mark!r}\n{source}", name=f"child-{mark}") for mark in "abc"]
    async with Supervisor(heard.sink, QUICK) as supervisor:
        supervisor.start(programs)
        await eventually(lambda: len(heard.lines) == 600, within=30)
    assert set(heard.lines) == {f"child-{mark:<6} | {mark * 6_000}" for mark in "abc"}


async def test_a_line_without_an_end_is_passed_on_in_pieces(script: Script, heard: Heard) -> None:
    size = MAX_LINE_BYTES + 10
    async with Supervisor(heard.sink, QUICK) as supervisor:
        supervisor.start([script(f'sys.stdout.write("x" * {size}); sys.stdout.flush(); {FOREVER}')])
        await eventually(lambda: heard.lines)
    await eventually(lambda: heard.text.count("x") == size)
    assert max(map(len, heard.lines)) <= MAX_LINE_BYTES + 20


@pytest.mark.parametrize(("deaths", "seconds"), [(0, 0.5), (1, 0.5), (2, 1.0), (3, 2.0), (9, 3.0)])
def test_each_restart_waits_longer_up_to_a_bound(deaths: int, seconds: float) -> None:
    policy = RestartPolicy(initial_seconds=0.5, factor=2.0, longest_seconds=3.0)
    assert policy.delay(deaths) == seconds


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "exited with status 0"), (-9, "was ended by SIGKILL"), (-63, "was ended by signal 63")],
)
def test_an_end_is_described_in_words(status: int, text: str) -> None:
    assert describe_end(status) == text
