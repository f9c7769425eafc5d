"""A product whose detect has a real Triton behind it, and what is asked of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.triton import Triton
from imageflow_detect.toy_repository import put_dark_model, put_mean_model

from . import pictures
from .callers import Callers, connect
from .product import Product, eventually

P3: list[dict[str, Any]] = [
    {"stepId": "fit", "componentName": "resize", "parameters": {"width": 800, "height": 600, "enlarge": True}},
    {
        "stepId": "detect",
        "componentName": "detect",
        "dependencies": ["fit"],
        "parameters": {"modelName": "coins"},
    },
    {
        "stepId": "sharpen",
        "componentName": "filter",
        "dependencies": ["detect"],
        "parameters": {"filterType": "unsharp"},
    },
]
NOT_SERVED = "elsewhere"
"""A model of the product's repository that Triton's does not have."""
DARK = "dark"
"""One that answers NaN to an image that is not black."""


@dataclass(frozen=True, slots=True)
class Inferring:
    """`told_before_triton`: what the product had logged when it was up and Triton was not."""

    product: Product
    callers: Callers
    triton: Triton
    told_before_triton: str

    def bring_back(self) -> None:
        """Starts Triton again, and waits until detect has found it."""
        self.triton.start()
        coins = pictures.coins()
        eventually(lambda: self.callers.process_http(coins, component="detect", set="modelName=coins").is_success)


def inferring(folder: Path) -> Iterator[Inferring]:
    """The product is started first, Triton once the product has said that it is missing."""
    triton = Triton(folder / "triton", folder / "served")
    triton.install()
    product = Product(folder, "--triton", triton.url)
    put_dark_model(product.models, DARK)
    shutil.copytree(product.models, triton.models)
    put_mean_model(product.models, NOT_SERVED)
    try:
        eventually(lambda: "not_serving" in product.err)
        told = product.err
        triton.start()
        product.wait_ready()
        for callers in connect(product.url, f"127.0.0.1:{product.port}"):
            yield Inferring(product, callers, triton, told)
        assert product.end() == 0, product.err
        assert "Traceback" not in product.err
        assert product.left_behind() == []
    finally:
        product.kill()
        triton.stop()


def p3(*, retries: int = 0, **parameters: Any) -> list[dict[str, Any]]:
    """Resize, detect, filter; `parameters` are more of detect's."""
    fit, detect, sharpen = P3
    policy = {"maxRetries": retries, "initialDelay": "0.5s", "backoffFactor": 1.5, "maxDelay": "2s"}
    changed = {**detect, "parameters": {**detect["parameters"], **parameters}, "retryPolicy": policy}
    return [fit, changed, sharpen]


def executed(callers: Callers, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The execution, of the photograph that lies under `triton/coins.png`."""
    body = {"pipeline": {"pipelineId": "inferring", "steps": steps}, "inputPath": "triton/coins.png"}
    answer: dict[str, Any] = callers.post("/v1/pipelines:execute", body).json()
    return answer
