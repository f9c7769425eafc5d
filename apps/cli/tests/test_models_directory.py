"""Which models are meant when nobody says."""

from __future__ import annotations

from pathlib import Path

import pytest

from imageflow_cli.models_directory import find_models, find_own_models
from imageflow_detect.models import ModelRepository


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGEFLOW_MODELS_DIRECTORY", raising=False)


def test_the_demo_model_comes_with_detect() -> None:
    model = ModelRepository(find_models(None)).resolve("coins")
    assert model.labels == ("coin",)
    assert model.file.stat().st_size > 100_000


def test_a_folder_here_comes_first_where_it_has_the_model_asked_for() -> None:
    Path("models", "mine").mkdir(parents=True)
    assert find_models(None) == Path("models")
    assert find_models(None, holding="mine") == Path("models")
    assert (find_models(None, holding="coins") / "coins").is_dir()


@pytest.mark.parametrize("find", [find_models, find_own_models])
def test_who_says_where_is_taken_at_his_word(find: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(find)
    assert find(Path("there")) == Path("there")
    monkeypatch.setenv("IMAGEFLOW_MODELS_DIRECTORY", "elsewhere")
    assert find(None) == Path("elsewhere")
    assert find(Path("there")) == Path("there")


def test_a_model_is_added_here_and_never_to_the_package() -> None:
    assert find_own_models(None) == Path("models")
