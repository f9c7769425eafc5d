"""The collector takes its configuration, in both places where it is meant to run (R63)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

COLLECTOR = Path(__file__).resolve().parents[2] / "observability" / "collector"


@pytest.mark.parametrize(
    "files",
    [
        ("collector.yaml", "kubernetes.yaml"),
        ("collector.yaml", "local.yaml"),
        ("collector.yaml", "kubernetes.yaml", "balancer.yaml"),
        ("collector.yaml", "sampler.yaml"),
        ("nodes.yaml",),
    ],
)
def test_the_collector_takes_its_configuration(otelcol_program: str, files: tuple[str, ...]) -> None:
    done = subprocess.run(
        [otelcol_program, "validate", *(f"--config={name}" for name in files)],
        cwd=COLLECTOR,
        env={"IMAGEFLOW_NODE": "node"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr


def test_a_misspelt_key_is_no_valid_configuration(otelcol_program: str, tmp_path: Path) -> None:
    wrong = (COLLECTOR / "collector.yaml").read_text().replace("limit_mib", "limit_mb")
    (tmp_path / "collector.yaml").write_text(wrong)
    command = [otelcol_program, "validate", "--config", str(tmp_path / "collector.yaml")]
    done = subprocess.run(
        [*command, "--config", str(COLLECTOR / "local.yaml")],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "limit_mb" in done.stdout + done.stderr
