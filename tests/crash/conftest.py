"""A product of small components that several tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from . import pictures
from .shapes import INPUT, QUICK, reference
from .stage import Life, Stage, staged


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage") / "product", "resize", "filter") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def life(stage: Stage) -> AsyncIterator[Life]:
    async with stage.live() as running:
        await running.upload(INPUT, pictures.coins())
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick_sha256() -> str:
    """Of the output of `QUICK`, made in this process."""
    return await reference(QUICK)
