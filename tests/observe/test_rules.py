"""Prometheus' configuration is valid, and each alert fires when it should and is quiet when it should (R65)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path(__file__).resolve().parents[2] / "observability" / "prometheus"
ALERTS: list[dict[str, Any]] = yaml.safe_load((RULES / "alerts.yaml").read_text())["groups"][0]["rules"]
CASES = RULES / "tests" / "alerts.yaml"
REQUIRED = {
    "PipelineExecutionFailureRate": ("warning", "2m"),
    "PipelineExecutionLatencyHigh": ("warning", "5m"),
    "StepExecutionStuck": ("critical", "10m"),
    "TraceMissingSpans": ("warning", "2m"),
    "HighErrorLogRate": ("warning", "2m"),
}


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_configuration_and_rules(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "config", "prometheus.yaml", cwd=RULES)


def test_each_alert_fires_and_is_quiet_as_its_cases_say(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", CASES.name, cwd=CASES.parent)


def test_a_rule_that_is_wrong_is_noticed_by_its_cases(promtool: str, tmp_path: Path) -> None:
    text = (RULES / "alerts.yaml").read_text()
    (tmp_path / "tests").mkdir()
    for name in ("recording.yaml", "tests/alerts.yaml"):
        (tmp_path / name).write_text((RULES / name).read_text())
    (tmp_path / "alerts.yaml").write_text(text.replace(" > 0.1\n", " > 0.3\n").replace("> 50\n", "> 2\n"))
    done = subprocess.run(
        [promtool, "test", "rules", "tests/alerts.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode != 0
    assert "PipelineExecutionFailureRate" in done.stdout + done.stderr
    assert "ExecutionsWait" in done.stdout + done.stderr


@pytest.mark.parametrize("alert", [each["alert"] for each in ALERTS])
def test_each_alert_has_a_firing_and_a_quiet_case(alert: str) -> None:
    names = [case["name"] for case in yaml.safe_load(CASES.read_text())["tests"]]
    assert any(name.startswith(f"{alert} fires") for name in names)
    assert any(name.startswith(f"{alert} is quiet") for name in names)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_says_how_bad_it_is_what_it_means_and_where_to_look(alert: dict[str, Any]) -> None:
    assert alert["labels"].keys() == {"severity", "service", "component"}
    assert {"summary", "description", "grafana_url", "runbook_url"} <= alert["annotations"].keys()
    heading = alert["annotations"]["runbook_url"].partition("#")[2]
    runbook = (RULES.parents[1] / "docs" / "runbook.md").read_text()
    assert f"\n### {alert['alert']}\n" in runbook
    assert heading == alert["alert"].lower()


def test_the_alerts_that_are_required_are_there_as_required() -> None:
    found = {each["alert"]: (each["labels"]["severity"], each["for"]) for each in ALERTS}
    assert {name: found[name] for name in REQUIRED} == REQUIRED
