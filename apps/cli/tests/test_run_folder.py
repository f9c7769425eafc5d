"""`imageflow run --batch`: every image of a folder, each alone, and what was done stays done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from imageflow_cli.demo import photograph
from imageflow_cli.exits import Exit
from imageflow_cli.main import cli

from .conftest import EXAMPLES, command, environment, eventually_now

PIPELINE = str(EXAMPLES / "resize.json")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images, something else, and a folder."""
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.PNG"):
        (folder / name).write_bytes(photograph())
    (folder / "notes.txt").write_text("not an image")
    return folder


def run(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(cli, ["run", PIPELINE, "--json", *arguments])
    answer: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, answer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_image_of_the_folder_is_written_under_its_name(images: Path, tmp_path: Path) -> None:
    status, answer = run("--batch", str(images), "-o", str(tmp_path / "new" / "out"), "--set", "resize.width=50")
    assert (status, answer["written"], answer["skipped"], answer["failed"]) == (Exit.OK, 3, 0, 0)
    assert names(tmp_path / "new" / "out") == ["a.png", "b.png", "c.PNG"]
    assert Image.open(tmp_path / "new" / "out" / "c.PNG").width == 50


def test_a_format_gives_every_output_its_ending(images: Path, tmp_path: Path) -> None:
    status, _ = run("--batch", str(images), "-o", str(tmp_path / "out"), "--format", "webp")
    assert status == Exit.OK
    assert names(tmp_path / "out") == ["a.webp", "b.webp", "c.webp"]


def test_a_bad_image_fails_alone_with_its_reason(images: Path, tmp_path: Path) -> None:
    (images / "b.png").write_bytes(photograph()[:500])
    result = CliRunner().invoke(cli, ["run", PIPELINE, "--batch", str(images), "-o", str(tmp_path / "out")])
    assert result.exit_code == Exit.FAILED
    assert names(tmp_path / "out") == ["a.png", "c.PNG"]
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:4]] == [
        ["written", "2"],
        ["skipped", "0"],
        ["failed", "1"],
    ]
    assert result.stdout.splitlines()[-1].startswith("b.png  ")


def test_what_is_done_is_done_until_its_image_changes(images: Path, tmp_path: Path) -> None:
    arguments = ("--batch", str(images), "-o", str(tmp_path / "out"))
    assert run(*arguments)[1]["written"] == 3
    assert run(*arguments)[1]["skipped"] == 3
    later = (tmp_path / "out" / "a.png").stat().st_mtime + 10
    os.utime(images / "a.png", (later, later))
    status, answer = run(*arguments)
    assert (status, answer["written"], answer["skipped"]) == (Exit.OK, 1, 2)
    assert run(*arguments, "--again")[1]["written"] == 3


def test_a_batch_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:03}.png").write_bytes(photograph())
    arguments = command("run", PIPELINE, "--batch", str(folder), "-o", str(out), "--json", "--concurrency", "2")
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually_now(lambda: out.exists() and len(list(out.glob("*.png"))) >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = sorted(out.glob("[0-9]*.png"))
    for path in before:
        Image.open(path).load()
    status, answer = run("--batch", str(folder), "-o", str(out))
    assert (status, answer["skipped"], answer["written"]) == (Exit.OK, len(before), 300 - len(before))
    assert len(before) < 300
    assert names(out) == names(folder)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--batch", "none", "-o", "out"], "cannot read none"),
        (["--batch", "in", "-o", "in"], "would lie among the images"),
        (["--batch", "in/deeper", "-o", "out"], "there are no images in"),
        (["--batch", "twins", "-o", "out", "--format", "webp"], "a.jpg and a.png would both become a.webp"),
        (["--batch", "in", "-o", "out", "--format", "gif"], "the output format must be"),
        (["in/a.png", "--batch", "in", "-o", "out"], "give IMAGE or --batch"),
        (["-o", "out"], "give IMAGE or --batch"),
    ],
)
@pytest.mark.usefixtures("images")
def test_what_cannot_be_meant_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twins").mkdir()
    for name in ("a.png", "a.jpg"):
        (tmp_path / "twins" / name).write_bytes(photograph())
    result = CliRunner().invoke(cli, ["run", PIPELINE, *arguments])
    assert (result.exit_code, why in result.stderr) == (Exit.USAGE, True), result.stderr
