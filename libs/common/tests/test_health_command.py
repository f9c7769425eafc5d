"""`imageflow-health`: one question to the service of this container, for its exit status."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from imageflow_common.health_command import main
from tests.mounted import Mounted


def test_a_service_that_serves_is_healthy(serve_probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEFLOW_PORT", str(serve_probe().port))

    main()


def test_a_service_that_refused_changed_settings_is_healthy(
    serve_probe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It goes on with those before, and is not to be killed for them."""
    mounted = Mounted(tmp_path / "settings")
    served = serve_probe(settings_directory=mounted.path, settings_poll_seconds=0.05)
    monkeypatch.setenv("IMAGEFLOW_PORT", str(served.port))
    monkeypatch.setenv("IMAGEFLOW_SETTINGS_DIRECTORY", str(mounted.path))

    mounted.put(log_level="LOUD")
    served.wait_for("settings.refused")

    main()


def test_a_service_that_is_not_there_is_not_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("IMAGEFLOW_PORT", str(taken.getsockname()[1]))

        with pytest.raises(SystemExit, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"):
            main()
