"""`imageflow models`: what is added, listed and removed, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imageflow_cli.commands import models
from imageflow_cli.main import cli
from imageflow_detect import adding, manifest
from imageflow_detect.toy_models import columns, fixed_output_model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return fixed_output_model(columns((32, 32, 16, 8, 1, 0.75)), tmp_path / "toy.onnx")


def invoke(command: str, *arguments: object, folder: Path) -> Result:
    return CliRunner().invoke(cli, ["models", command, *map(str, arguments), "--models", str(folder / "models")])


def test_a_model_is_added_listed_and_removed(file: Path, tmp_path: Path) -> None:
    added = invoke("add", file, "--name", "toy", "--labels", "cat,dog", folder=tmp_path)
    assert added.exit_code == 0, added.output
    assert "layout yolo_v8, guessed: 'output0' is [1, 6, 100]: 4 + 2 classes, 100 anchors" in added.stdout
    assert "tried on a photograph: found dog 0.75" in added.stdout
    assert "added toy version 1: cat, dog" in added.stdout
    (listed,) = json.loads(invoke("list", "--json", folder=tmp_path).stdout)
    assert (listed["name"], listed["versions"], listed["labels"]) == ("toy", [1], ["cat", "dog"])
    assert (listed["layout"], listed["licence"], listed["source"]) == ("yolo_v8", "unknown", "toy.onnx")
    assert invoke("remove", "toy", folder=tmp_path).stdout == "removed toy\n"
    assert json.loads(invoke("list", "--json", folder=tmp_path).stdout) == []


def test_a_model_that_cannot_be_used_is_listed_with_its_fault(file: Path, tmp_path: Path) -> None:
    for name in ("bad", "good"):
        invoke("add", file, "--name", name, "--labels", "cat,dog", folder=tmp_path)
    (tmp_path / "models" / "bad" / "manifest.yaml").write_text("name: other")
    bad, good = json.loads(invoke("list", "--json", folder=tmp_path).stdout)
    assert "the manifest of model 'bad' is not valid" in bad["fault"]
    assert good["fault"] == ""
    assert "the manifest of model 'bad' is not valid" in invoke("list", folder=tmp_path).stdout


def test_what_is_added_is_said_as_json(file: Path, tmp_path: Path) -> None:
    arguments = ["--name", "toy", "--labels", "cat,dog", "--values=-1..1", "--json"]
    said = json.loads(invoke("add", file, *arguments, folder=tmp_path).stdout)
    assert said["layout"] == "yolo_v8"
    assert said["tried"] == [{"label": "dog", "confidence": 0.75}]
    assert "values -1..1" in said["remarks"][1]


def test_a_model_is_tried_on_the_picture_that_is_given(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.txt"
    picture.write_text("no picture")
    added = invoke("add", file, "--name", "toy", "--labels", "a,b", "--try", picture, folder=tmp_path)
    assert added.exit_code != 0
    assert "image" in added.stderr
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--labels", "cat,dog"], "needs --name and --labels"),
        (["--name", "toy"], "needs --name and --labels"),
        (["--name", "toy", "--labels", "a,b", "--size", "64"], "--size is WIDTHxHEIGHT"),
        (["--name", "toy", "--labels", "a,b", "--size", "0x64"], "--size is WIDTHxHEIGHT"),
        (["--name", "toy", "--labels", "a,b", "--layout", "yolo_v5"], "output0"),
        (["--name", "toy", "--labels", "a,b,c"], "2 classes, but 3 labels"),
        (["--name", "../toy", "--labels", "a,b"], "not starting with a dot"),
    ],
)
def test_what_cannot_be_added_is_refused(arguments: list[str], says: str, file: Path, tmp_path: Path) -> None:
    added = invoke("add", file, *arguments, folder=tmp_path)
    assert added.exit_code != 0
    assert says in added.stderr
    assert not (tmp_path / "models").exists()


def test_the_choices_are_those_that_detect_has() -> None:
    """They are written twice, so that `--help` imports nothing."""
    assert manifest.LAYOUTS == models.LAYOUTS
    assert tuple(adding.VALUES) == models.VALUES
