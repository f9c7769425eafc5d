"""Settings: from the environment, all faults at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from imageflow_common.settings import ComponentSettings, ServerSettings, load_settings
from tests.mounted import Mounted


def test_nothing_set_is_every_default(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(ComponentSettings)
    assert (settings.port, settings.host, settings.log_format) == (9090, "127.0.0.1", "json")
    assert settings.max_in_flight == 50
    assert settings.timeout_seconds == 30.0
    assert settings.max_running >= 1
    assert settings.shared_directory is None


def test_the_environment_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEFLOW_PORT", "0")
    monkeypatch.setenv("IMAGEFLOW_SHARED_DIRECTORY", "/dev/shm/x")
    settings = load_settings(ServerSettings)
    assert (settings.port, settings.shared_directory) == (0, Path("/dev/shm/x"))


def test_every_fault_is_told_at_once_and_the_status_is_78(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "PORT": "99999",
        "LOG_FORMAT": "xml",
        "MAX_IN_FLIGHT": "0",
        "TIMEOUT_SECONDS": "nan",
        "MAX_RUNNING": "many",
        "MAX_MEGAPIXELS_IN_FLIGHT": "inf",
    }.items():
        monkeypatch.setenv(f"IMAGEFLOW_{name}", value)
    with pytest.raises(SystemExit) as raised:
        load_settings(ComponentSettings)
    assert raised.value.code == 78
    lines = capsys.readouterr().err.splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == [
        "IMAGEFLOW_LOG_FORMAT",
        "IMAGEFLOW_MAX_IN_FLIGHT",
        "IMAGEFLOW_MAX_MEGAPIXELS_IN_FLIGHT",
        "IMAGEFLOW_MAX_RUNNING",
        "IMAGEFLOW_PORT",
        "IMAGEFLOW_TIMEOUT_SECONDS",
    ]
    assert all("(got " in line for line in lines)


def test_a_directory_sets_what_the_environment_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounted = Mounted(tmp_path / "settings", max_in_flight="7\n", port=1, max_inflight=1)
    monkeypatch.setenv("IMAGEFLOW_SETTINGS_DIRECTORY", str(mounted.path))
    monkeypatch.setenv("IMAGEFLOW_PORT", "2")

    settings = load_settings(ComponentSettings)

    assert (settings.max_in_flight, settings.port, settings.settings_directory) == (7, 2, mounted.path)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (None, "IMAGEFLOW_SETTINGS_DIRECTORY: [Errno 2] No such file or directory"),
        ({"max_in_flight": "0"}, "IMAGEFLOW_MAX_IN_FLIGHT: Input should be greater than 0 (got '0')"),
        ({"max_in_flight": b"\xff"}, "can't decode byte"),
    ],
)
def test_a_faulty_directory_ends_the_process_with_78_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, object] | None,
    told: str,
) -> None:
    path = tmp_path / "settings"
    if files is not None:
        Mounted(path, **files)
    monkeypatch.setenv("IMAGEFLOW_SETTINGS_DIRECTORY", str(path))

    with pytest.raises(SystemExit) as raised:
        load_settings(ComponentSettings)

    assert raised.value.code == 78
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_value_that_is_not_json_where_it_must_be_is_a_fault_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Listed(ServerSettings):
        addresses: list[str] = []  # noqa: RUF012

    monkeypatch.setenv("IMAGEFLOW_ADDRESSES", "[")
    with pytest.raises(SystemExit) as raised:
        load_settings(Listed)
    assert raised.value.code == 78
    assert "addresses" in capsys.readouterr().err


def test_settings_do_not_change() -> None:
    settings = ServerSettings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


@pytest.mark.parametrize(
    ("memory_bytes", "largest", "in_flight"),
    [(768 * 2**20, 60.4, 60.4), (2**30 * 3 // 2, 100, 120.8), (2**35, 100, 400)],
)
def test_what_a_component_takes_at_once_fits_its_memory(
    monkeypatch: pytest.MonkeyPatch, memory_bytes: int, largest: float, in_flight: float
) -> None:
    monkeypatch.setattr("imageflow_common.settings.memory_limit", lambda: memory_bytes)
    monkeypatch.setattr("imageflow_common.settings.cpu_limit", lambda: 0.7)
    settings = ComponentSettings()

    assert settings.max_image_megapixels == pytest.approx(largest, abs=0.05)
    assert settings.max_megapixels_in_flight == pytest.approx(in_flight, abs=0.05)
    assert settings.max_running == 1


def test_a_bound_that_is_set_counts_whatever_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imageflow_common.settings.memory_limit", lambda: 2**20)

    assert ComponentSettings(max_image_megapixels=50).max_image_megapixels == 50
