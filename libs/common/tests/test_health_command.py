"""`imageflow-health`: one question to the service of this container, for its exit status."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from imageflow_common.health_command import main


def test_a_service_that_serves_is_healthy(serve_probe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEFLOW_PORT", str(serve_probe().port))

    main()


def test_a_service_that_is_not_there_is_not_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("IMAGEFLOW_PORT", str(taken.getsockname()[1]))

        with pytest.raises(SystemExit, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"):
            main()
