"""`imageflow status`: what runs, and whether it is well."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imageflow_cli.options import DEFAULT_URL, json_option
from imageflow_cli.output import Output

_SECONDS = 6.0

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
    needed = asyncio.run(_needed(state)) if state else []
    answer = asyncio.run(http_get(f"{url}/readyz"))
    ready = answer.status == 200
    processes = [dict(zip(("name", "pid", "address", "health"), row, strict=True)) for row in rows]
    dependencies = [dict(zip(("kind", "name", "well", "since", "reason"), each, strict=True)) for each in needed]
    out.data({"url": url, "ready": ready, "processes": processes, "dependencies": dependencies})
    if rows:
        out.table(["process", "pid", "address", "health"], rows, right=["pid"])
    if wrong := [[kind, name, f"since {since}", reason] for kind, name, well, since, reason in needed if not well]:
        out.table(["what is wrong", "", "", ""], wrong)
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


async def _needed(state: UpState) -> list[tuple[str, str, bool, str, str]]:
    """What pipelines need, as the orchestrator of this machine tells: kind, name, whether it is well, since when, and
    what is wrong. Nothing while it does not answer."""
    import grpc.aio

    from imageflow.v1.system_pb2 import GetDependenciesRequest, GetDependenciesResponse
    from imageflow_cli.topology import ORCHESTRATOR

    address = next((p.address for p in state.processes if p.name == ORCHESTRATOR and p.pid), "")
    if not address:
        return []
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary(
            "/imageflow.v1.SystemService/GetDependencies",
            request_serializer=GetDependenciesRequest.SerializeToString,
            response_deserializer=GetDependenciesResponse.FromString,
        )
        try:
            told = await ask(GetDependenciesRequest(), timeout=_SECONDS)
        except grpc.aio.AioRpcError:
            return []
    return [
        (each.kind, each.name, each.well, each.since.ToJsonString().partition(".")[0], each.reason)
        for each in told.dependencies
    ]


def _words(status: int) -> str:
    if status == 200:
        return "ready"
    return f"not ready (HTTP {status})" if status else "no server answers"
