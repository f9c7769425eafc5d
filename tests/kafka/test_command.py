"""`imageflow up --kafka`, `submit`, `watch --all` and `dlq`, as a person uses them: real processes, a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator_served import picture

from backends.kafka import KafkaServer
from imageflow_common.kafka_settings import KafkaSettings

from .office import RESIZE, Office

KNOWN_SECONDS = 60.0


def environment(settings: KafkaSettings) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEFLOW_")}
    return {**kept, "IMAGEFLOW_KAFKA_TOPIC_PREFIX": settings.topic_prefix}


@contextmanager
def running(folder: Path, settings: KafkaSettings, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, until the block is left. Its output goes to a file."""
    with (folder / f"{arguments[0]}.out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "imageflow_cli", *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment(settings),
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def command(folder: Path, settings: KafkaSettings, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "imageflow_cli", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(settings),
        timeout=KNOWN_SECONDS,
        check=False,
    )
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout


def eventually(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + KNOWN_SECONDS
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def test_a_request_is_submitted_watched_set_aside_and_sent_again(
    tmp_path: Path, kafka_server: KafkaServer, kafka_settings: KafkaSettings
) -> None:
    broker = ("--kafka", kafka_server.bootstrap_servers)
    (tmp_path / "resize.json").write_text(json.dumps(RESIZE))
    (tmp_path / "in.png").write_bytes(picture())
    with running(tmp_path, kafka_settings, "up", "--port", "0", *broker):
        state = tmp_path / "imageflow-data" / "run" / "state.json"
        url = eventually(lambda: state.exists() and (known := json.loads(state.read_text()))["ready"] and known["url"])
        command(tmp_path, kafka_settings, "images", "put", "in.png", "in.png", "--url", url)

        with running(tmp_path, kafka_settings, "watch", "--all", "--json", *broker):
            out = tmp_path / "watch.out"
            submit = ("submit", "resize.json", "--input", "in.png", "--wait", "--json", *broker)
            told = json.loads(command(tmp_path, kafka_settings, *submit, "--set", "small.width=64"))
            assert told["status"] == "completed"
            eventually(lambda: '"completed_at"' in out.read_text() or not _again(tmp_path, kafka_settings, submit))

        refused = ("submit", "--pipeline-id", "later", "--input", "in.png", "--execution-id", "early", *broker)
        command(tmp_path, kafka_settings, *refused, "--wait", status=1)
        [letter] = eventually(lambda: json.loads(command(tmp_path, kafka_settings, "dlq", "list", "--json", *broker)))
        assert letter["key"] == "early"
        assert letter["reason"].startswith("PIPELINE_NOT_FOUND")
        shown = json.loads(command(tmp_path, kafka_settings, "dlq", "show", letter["place"], "--json", *broker))
        assert json.loads(shown["body"])["execution_id"] == "early"

        (tmp_path / "later.json").write_text(json.dumps({**RESIZE, "pipelineId": "later"}))
        command(tmp_path, kafka_settings, "pipelines", "create", "later.json", "--url", url)
        command(tmp_path, kafka_settings, "dlq", "retry", letter["place"], *broker)
        office = Office(kafka_settings.model_copy(update={"bootstrap_servers": kafka_server.bootstrap_servers}))
        states = eventually(
            lambda: len(said := [each["status"] for each in office.completions().get("early", [])]) == 2 and said
        )
        office.close()
        assert states == ["failed", "completed"]  # the refusal, and then the execution
    command(tmp_path, kafka_settings, "dlq", "list", "--kafka", "127.0.0.1:1", status=1)


def _again(folder: Path, settings: KafkaSettings, submit: tuple[str, ...]) -> str:
    """What is watched is what happens from then on: so there is more to be told until it listens."""
    return command(folder, settings, *submit)
