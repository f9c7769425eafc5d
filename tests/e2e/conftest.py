"""One product for all: the real services behind a real Envoy, as `imageflow up` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.server import CannotStart

from . import pictures
from .callers import Callers, connect
from .collector import collecting
from .error_table import Row, read_table
from .inference import Inferring
from .inference import inferring as infer
from .product import Elsewhere, Footprint, Product
from .workshop import Workshop, installed, register, running_elsewhere, settings, write_component

ELSEWHERE = os.environ.get("IMAGEFLOW_E2E_URL")
"""The gateway of a system that runs already, with nothing stored in it: what needs no more is tested against that."""
BY_ITS_GATEWAY = {
    "test_bad_input_definitions",
    "test_bad_input_images",
    "test_bad_input_keys",
    "test_bad_input_requests",
    "test_clients",
    "test_detections",
    "test_executions",
    "test_http_surface",
}
"""The others look at processes, at files on this machine and at settings, or start products of their own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="not by the gateway alone: it looks into an `imageflow up` that it starts")
    for item in items:
        if ELSEWHERE and Path(__file__).parent in item.path.parents and item.path.stem not in BY_ITS_GATEWAY:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product | Elsewhere]:
    """As it comes, with two of `resize`. When the tests are done it ends in order and leaves nothing."""
    if ELSEWHERE:
        yield Elsewhere(ELSEWHERE)
        return
    yield from run(Product(tmp_path_factory.mktemp("product"), "--replicas", "resize=2"))


@pytest.fixture(scope="session")
def callers(product: Product) -> Iterator[Callers]:
    yield from connect(product.url, f"127.0.0.1:{product.port}")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A product with a user's component, his collector, and room for few executions."""
    before, folder = installed(), tmp_path_factory.mktemp("acme")
    registry = write_component(folder)
    with collecting() as collector, running_elsewhere(folder) as port:
        register(registry, "wash", f"127.0.0.1:{port}")
        product = Product(
            tmp_path_factory.mktemp("workshop"), "--registry", str(registry), environment=settings(collector)
        )
        for running in run(product):
            for callers in connect(running.url, f"127.0.0.1:{running.port}"):
                yield Workshop(running, callers, collector, folder, before)


@pytest.fixture(scope="session")
def inferring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inferring]:
    """A product with a Triton behind detect."""
    try:
        yield from infer(tmp_path_factory.mktemp("inferring"))
    except CannotStart as exc:
        pytest.skip(f"needs a Triton: {exc}")


@pytest.fixture(scope="session")
def examples() -> Path:
    return Path(__file__).resolve().parents[2] / "examples"


def run(product: Product) -> Iterator[Product]:
    try:
        product.wait_ready()
        yield product
        assert product.end() == 0, product.err
        assert "Traceback" not in product.err, _around(product.err, "Traceback")
        assert product.left_behind() == []
    finally:
        product.kill()


def _around(text: str, word: str) -> str:
    """What a person needs to see of a log."""
    place = text.find(word)
    return text[max(0, place - 2000) : place + 4000]


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """What docs/errors.md has for this test."""
    rows = read_table()
    name = request.function.__name__
    assert name in rows, f"docs/errors.md has no row for {name}"
    return rows[name]


@pytest.fixture(scope="session")
def footprints_before(product: Product, callers: Callers) -> dict[str, Footprint]:
    """What each process holds before the first bad input, when each has done all kinds of work once."""
    for component, assignments in (("resize", []), ("filter", []), ("detect", ["modelName=coins"])):
        for _ in range(4):
            assert callers.process_http(pictures.photo(1920, 1080), component=component, set=assignments).is_success
    return product.footprints()


@pytest.fixture(scope="session")
def shared_before(product: Product, footprints_before: object) -> int:
    return len(product.shared_names())


@pytest.fixture
def then_it_still_serves(callers: Callers, footprints_before: object, shared_before: object) -> Iterator[None]:
    """After what was refused, the next good request succeeds."""
    yield
    response = callers.process_http(pictures.photo(), "image/jpeg")
    assert response.status_code == 200, response.text
