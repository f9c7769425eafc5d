"""`imageflow up` as a person uses it: real processes, a real gateway."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imageflow_cli.ports import free_ports

from .conftest import Up, command, environment, eventually_now, is_alive

StartUp = Callable[..., Up]


def imageflow(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(**more), timeout=60, check=False
    )


def test_it_starts_everything_tells_where_and_leaves_nothing(start_up: StartUp, tmp_path: Path) -> None:
    up = start_up()
    up.wait_ready()
    assert set(up.pids) == {"resize", "detect", "filter", "orchestrator", "gateway"}
    state = json.loads((up.data / "run" / "state.json").read_text())
    assert state["url"] == up.url
    assert Path(state["shared_directory"]).is_dir()
    pids = up.pids.values()

    assert up.end() == 0
    assert not any(is_alive(pid) for pid in pids)
    assert not Path(state["shared_directory"]).exists()
    assert sorted(path.name for path in up.data.iterdir()) == ["store", "up.lock"]
    assert "stopping" in up.err
    assert imageflow("status", "--data", str(up.data), "--url", up.url, cwd=tmp_path).returncode == 3


def test_a_request_in_flight_is_answered_before_the_end(start_up: StartUp) -> None:
    up = start_up()
    up.wait_ready()
    host, _, port = up.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"PUT /v1/images/uploads/slow HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n")
        connection.sendall(b"content-length: 10\r\n\r\nfirst")
        up.process.send_signal(signal.SIGTERM)
        eventually_now(lambda: "stopping" in up.err)
        assert all(is_alive(pid) for pid in up.pids.values())
        connection.sendall(b" half")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    assert up.process.wait(30) == 0
    assert [path.read_bytes() for path in up.data.rglob("slow*") if path.is_file()][:1] == [b"first half"]


def test_a_component_that_dies_comes_back_and_status_says_so(running: Up, tmp_path: Path) -> None:
    def status() -> dict[str, str]:
        answer = json.loads(imageflow("status", "--data", str(running.data), "--json", cwd=tmp_path).stdout)
        return {p["name"]: f"{p['health']} {p['pid']}" for p in answer["processes"]}

    pid = running.pids["filter"]
    assert status()["filter"] == f"serving {pid}"
    os.kill(pid, signal.SIGKILL)
    eventually_now(lambda: status()["filter"].startswith("serving") and status()["filter"] != f"serving {pid}")
    assert "filter was ended by SIGKILL after" in running.err
    assert status()["gateway"] == f"running {running.pids['gateway']}"


def test_a_data_folder_in_use_is_refused(running: Up, tmp_path: Path) -> None:
    answer = imageflow("up", "--port", "0", "--data", str(running.data), cwd=tmp_path)
    assert answer.returncode == 5
    assert "is in use by another `imageflow up`" in answer.stderr


def test_a_port_that_is_taken_is_refused(running: Up, tmp_path: Path) -> None:
    port = running.url.rpartition(":")[2]
    answer = imageflow("up", "--port", port, "--data", str(tmp_path / "other"), "--json", cwd=tmp_path)
    assert answer.returncode == 5
    assert f"port {port} is taken" in json.loads(answer.stdout)["error"]["message"]


def test_of_two_that_start_at_once_on_one_port_the_second_is_refused(tmp_path: Path) -> None:
    """Whoever of them is second: it says so in one sentence, and nothing of the gateway's own troubles."""
    (port,) = free_ports(1)
    both = [
        subprocess.Popen(
            command("up", "--port", str(port), "--data", str(tmp_path / name)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for name in ("one", "two")
    ]
    try:
        eventually_now(lambda: any(each.poll() is not None for each in both))
        (refused,) = [each for each in both if each.poll() is not None]
        assert (refused.returncode, refused.communicate(timeout=20)[1]) == (
            5,
            f"error: port {port} is taken; choose another with --port, or 0 for any\n",
        )
    finally:
        for each in both:
            each.terminate()
            each.wait(30)


def test_a_component_that_does_not_stay_alive_ends_everything(start_up: StartUp, tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text("components: {broken: {command: [python, -c, raise SystemExit(78)]}}")
    up = start_up("--registry", str(tmp_path / "registry.yaml"))
    assert up.process.wait(30) == 6
    assert "error: broken exited with status 78: giving up" in up.err
    assert not (up.data / "run").exists()


def test_a_second_signal_ends_everything_at_once(start_up: StartUp, tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('pid', os.getpid(), flush=True)\n"
        "while True: signal.pause()"
    )
    (tmp_path / "registry.yaml").write_text("components: {stubborn: {command: [python, stubborn.py]}}")
    up = start_up("--registry", str(tmp_path / "registry.yaml"))
    eventually_now(lambda: "| pid " in up.err)
    pid = int(up.err.split("| pid ")[1].split()[0])
    up.process.send_signal(signal.SIGINT)
    eventually_now(lambda: "stopping" in up.err)
    assert up.end(signal.SIGINT) == 130
    eventually_now(lambda: not is_alive(pid))
    assert not (up.data / "run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
def test_nothing_outlives_an_up_that_is_killed_and_the_next_tidies(start_up: StartUp) -> None:
    up = start_up()
    up.wait_ready()
    pids = up.pids.values()
    memory = Path(json.loads((up.data / "run" / "state.json").read_text())["shared_directory"])
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    eventually_now(lambda: not any(is_alive(pid) for pid in pids))
    assert memory.exists()

    again = start_up()
    again.wait_ready()
    assert not memory.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replicas", "resize"], "expected NAME=N"),
        (["--replicas", "resize=0"], "expected NAME=N"),
        (["--replicas", "blur=2"], "no blur is started here"),
        (["--port", "70000"], "not in the range"),
        (["--registry", "none.yaml"], "none.yaml cannot be read"),
        (["--log-level", "LOUD"], "is not one of"),
        (["--data", "/proc/x"], "cannot keep data in /proc/x"),
    ],
)
def test_wrong_usage_is_status_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    answer = imageflow("up", "--port", "0", *arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_demo_finds_the_coins_and_leaves_its_pictures(tmp_path: Path) -> None:
    """With the model that comes with detect, and no folder of a demo that was killed."""
    (tmp_path / "models").mkdir()
    killed = tmp_path / "imageflow-demo-killed"
    killed.mkdir()
    (killed / "owner.lock").touch()
    answer = imageflow("demo", "--json", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    shown = json.loads(answer.stdout)
    assert shown["detections"] == 24
    assert set(shown["execution"]["results"]) == {"resize", "detect", "filter"}
    assert not killed.exists()
    assert sorted(path.name for path in (tmp_path / "demo-output").iterdir()) == [
        "after.png",
        "before.png",
        "imageflow.log",
    ]
