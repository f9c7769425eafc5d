"""What all the bad input leaves: nothing. And every row of docs/errors.md has its test."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from .error_table import read_table

if TYPE_CHECKING:
    from .product import Footprint, Product

HERE = Path(__file__).parent
MIB = 1024 * 1024
MOST_GROWTH_BYTES = 64 * MIB
"""For each process: what glibc is told to keep of freed memory."""
MOST_NEW_THREADS = 4
"""For each process: of its pool, those that had not begun before."""
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
    after = product.footprints()
    for name, before in footprints_before.items():
        assert after[name].pss_bytes - before.pss_bytes <= MOST_GROWTH_BYTES, (name, before, after[name])
        assert after[name].threads - before.threads <= MOST_NEW_THREADS, (name, before, after[name])
        assert after[name].descriptors - before.descriptors <= MOST_NEW_DESCRIPTORS, (name, before, after[name])
    assert len(product.shared_names()) == shared_before
