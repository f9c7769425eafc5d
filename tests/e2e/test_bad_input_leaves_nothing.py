"""What all the bad input leaves: nothing. And every row of docs/errors.md has its test."""

from __future__ import annotations

import ast
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import pictures
from .callers import grpc_refusal
from .error_table import read_table
from .product import eventually

if TYPE_CHECKING:
    from .callers import Callers
    from .product import Footprint, Product

HERE = Path(__file__).parent
MIB = 1024 * 1024
MOST_GROWTH_BYTES = (64 + 16 + 16) * MIB
"""For each process: what glibc is told to keep of freed memory, what it takes in advance, and caches at work."""
REPEATS = 16
MOST_NEW_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""For each process: of asyncio's pool, which is as large, those that had not begun before."""
MOST_NEW_DESCRIPTORS = 8
"""For each process: connections that are kept for the next call."""


def test_every_row_names_a_test_and_every_test_has_a_row() -> None:
    tests = {
        node.name
        for file in HERE.glob("test_bad_input_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and "row" in _arguments(node)
    }
    assert set(read_table()) == tests


def _arguments(function: ast.FunctionDef) -> set[str]:
    return {argument.arg for argument in function.args.args}


def test_memory_threads_descriptors_and_shared_memory_are_as_before(
    product: Product, footprints_before: dict[str, Footprint], shared_before: int
) -> None:
    _assert_as_before(product, footprints_before)
    assert len(product.shared_names()) == shared_before


def test_the_worst_again_and_again_takes_no_more_memory(
    callers: Callers, product: Product, footprints_before: dict[str, Footprint]
) -> None:
    """What is kept does not grow with what is refused."""
    worst = (pictures.bomb(), pictures.long_film(), pictures.photo()[:9000], bytes(20 * MIB))
    for _ in range(REPEATS):
        for image in worst:
            assert callers.process_http(image).status_code == 400
        grpc_refusal(lambda: callers.process_grpc(bytes(100_000_000)))
    _assert_as_before(product, footprints_before)


def _assert_as_before(product: Product, before: dict[str, Footprint]) -> None:
    """In the end: freed memory is given back by and by."""
    with suppress(AssertionError):
        eventually(lambda: not _grown(before, product.footprints()), every=0.2)
    assert _grown(before, product.footprints()) == {}


def _grown(before: dict[str, Footprint], after: dict[str, Footprint]) -> dict[str, tuple[Footprint, Footprint]]:
    """Those that hold more than they may, before and after."""
    return {
        name: (old, after[name])
        for name, old in before.items()
        if after[name].pss_bytes - old.pss_bytes > MOST_GROWTH_BYTES
        or after[name].threads - old.threads > MOST_NEW_THREADS
        or after[name].descriptors - old.descriptors > MOST_NEW_DESCRIPTORS
    }
