"""One product for all: the real services behind a real Envoy, as `imageflow up` starts them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .callers import Callers, connect
from .product import Product


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """As it comes, with two of `resize`. When the tests are done it ends in order and leaves nothing."""
    yield from run(Product(tmp_path_factory.mktemp("product"), "--replicas", "resize=2"))


@pytest.fixture(scope="session")
def callers(product: Product) -> Iterator[Callers]:
    yield from connect(product.url, f"127.0.0.1:{product.port}")


@pytest.fixture(scope="session")
def examples() -> Path:
    return Path(__file__).resolve().parents[2] / "examples"


def run(product: Product) -> Iterator[Product]:
    try:
        product.wait_ready()
        yield product
        assert product.end() == 0, product.err
        assert "Traceback" not in product.err
        assert product.left_behind() == []
    finally:
        product.kill()
