"""What holds for every test of the tree."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from backends.kafka_for_tests import kafka_server, kafka_settings  # noqa: F401 - fixtures

# How long an example takes says something of the machine, not of the code.
settings.register_profile("tree", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tree")

# A shell starts what runs in the background with SIGINT ignored, and so would be all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["backends.pytest_fixtures"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """In CI, a test that is skipped for want of a server or tool ("needs …") has failed."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if reason.removeprefix("Skipped: ").startswith("needs "):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} may not be skipped in CI: {reason}"
    return report
