"""What is written of the demo's model is what it does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

TREE = Path(__file__).resolve().parents[2]
COINS = TREE / "models" / "coins"


def test_the_evaluation_is_as_it_is_written() -> None:
    done = subprocess.run(
        [sys.executable, str(TREE / "tools" / "evaluate.py"), "--check"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_validation_set_was_not_trained_on() -> None:
    """Neither its seeds, which are those in validation.py, nor any number of scenes like the training's."""
    text = (COINS / "training" / "validation.py").read_text()
    first, count = (int(re.search(rf"^{name} = ([\d_]+)$", text, re.MULTILINE)[1]) for name in ("FIRST_SEED", "SCENES"))  # type: ignore[index]
    trained = {int(seed) for seed in np.random.SeedSequence(7).generate_state(2400)}
    assert not trained & set(range(first, first + count + 1))
    document = json.loads((COINS / "validation" / "annotations.json").read_text())
    assert len(document["images"]) == count
    assert {each["file_name"] for each in document["images"]} == {
        path.name for path in (COINS / "validation").glob("*.jpg")
    }
