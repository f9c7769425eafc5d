"""Runs the client's coroutines where there is no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from .client import Client
from .exits import ServerUnreachable

T = TypeVar("T")


def ask(url: str, question: Callable[[Client], Awaitable[T]], *, timeout: timedelta | None = None) -> T:
    """Opens a client, awaits one question, and closes it: `ask(url, lambda client: client.get_pipeline("p"))`."""

    async def answer() -> T:
        async with Client(url) if timeout is None else Client(url, timeout=timeout) as client:
            try:
                return await question(client)
            except ServerUnreachable as exc:
                hint = "start one with `imageflow up`, or name another by --url"
                raise ServerUnreachable(f"no server answers at {url}; {hint}") from exc

    return asyncio.run(answer())


def ask_all(url: str, question: Callable[[Client], AsyncIterator[T]], *, limit: int | None = None) -> list[T]:
    """As `ask`, for what comes one by one; at most `limit` of them."""

    async def collect(client: Client) -> list[T]:
        items: list[T] = []
        async for item in question(client):
            if limit is not None and len(items) >= limit:
                break
            items.append(item)
        return items

    return ask(url, collect)
