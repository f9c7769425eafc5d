"""What is asked of the system as `imageflow up` starts it, asked of the system in containers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tools import images

from .containers import System

pytestmark = pytest.mark.timeout(900)

SECONDS = 600.0


def test_the_tests_that_need_only_a_gateway_pass(running: System) -> None:
    url = str(running.callers.http.base_url).rstrip("/")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/e2e"],
        env={**os.environ, "IMAGEFLOW_E2E_URL": url},
        cwd=images.TOP,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-8_000:] + running.network.said()
    print(done.stdout[-2_000:])
