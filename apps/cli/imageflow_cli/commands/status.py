"""`imageflow status`: what runs, and whether it is well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imageflow_cli.options import DEFAULT_URL, json_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow_cli.datadir import UpState


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default="imageflow-data", show_default=True)
@click.option("--url", envvar="IMAGEFLOW_URL", default=None, help="A gateway; without it, that of `up` on --data.")
@json_option
def status(data: Path, url: str | None, out: Output) -> None:
    """Show the processes of `imageflow up`, the health of each, and whether pipelines can run."""
    import asyncio

    from imageflow_cli.datadir import read_state
    from imageflow_cli.exits import Exit
    from imageflow_cli.web import http_get

    state = read_state(data)
    if state and url not in (None, state.url):
        state = None
    url = url or (state.url if state else DEFAULT_URL)
    rows = asyncio.run(_health(state)) if state else []
    answer = asyncio.run(http_get(f"{url}/readyz"))
    ready = answer.status == 200
    processes = [dict(zip(("name", "pid", "address", "health"), row, strict=True)) for row in rows]
    out.data({"url": url, "ready": ready, "processes": processes})
    if rows:
        out.table(["process", "pid", "address", "health"], rows, right=["pid"])
    out.line(f"{url}: {_words(answer.status)}")
    if not ready:
        sys.exit(Exit.FAILED if answer.status else Exit.UNREACHABLE)


async def _health(state: UpState) -> list[list[str]]:
    import asyncio

    from imageflow_cli.readiness import check_health
    from imageflow_cli.topology import GATEWAY

    async def word(name: str, pid: int, address: str) -> str:
        if not pid:
            return "starting again"
        if name == GATEWAY:
            return "running"
        return "serving" if await check_health(address) else "not serving"

    words = await asyncio.gather(*(word(p.name, p.pid, p.address) for p in state.processes))
    return [
        [process.name, str(process.pid or "-"), process.address, text]
        for process, text in zip(state.processes, words, strict=True)
    ]


def _words(status: int) -> str:
    if status == 200:
        return "ready"
    return f"not ready (HTTP {status})" if status else "no server answers"
