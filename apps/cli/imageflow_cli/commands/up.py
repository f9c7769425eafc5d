"""`imageflow up`: the whole system on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from imageflow_cli.options import json_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow_cli.datadir import UpState
    from imageflow_cli.topology import ServiceLogLevel

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class _Replicas(click.ParamType[tuple[str, int]]):
    name = "NAME=N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        name, _, count = str(value).partition("=")
        if not name or not count.isdecimal() or not 1 <= int(count) <= 64:
            self.fail(f"{value!r}: expected NAME=N with N from 1 to 64", param, ctx)
        return name, int(count)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default="imageflow-data",
    show_default=True,
    help="The folder that everything is kept in.",
)
@click.option("--replicas", type=_Replicas(), multiple=True, help="Processes of a component; may be given again.")
@click.option(
    "--registry",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Further components (YAML), each with a `command` to start it by or an `address` where it runs.",
)
@click.option("--s3", metavar="s3://BUCKET[/PREFIX]", help="Keep objects there; credentials as IMAGEFLOW_S3_… say.")
@click.option("--s3-endpoint", metavar="URL", help="The S3 server, unless it is AWS's.")
@click.option("--kafka", metavar="HOST:PORT", help="The broker; a login as IMAGEFLOW_KAFKA_… say. Makes its topics.")
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), help="The model repository for detect.")
@click.option("--triton", metavar="HOST:PORT", help="The gRPC address of an NVIDIA Triton that runs detect's models.")
@click.option(
    "--shared-memory/--no-shared-memory",
    default=True,
    show_default=True,
    help="Whether large images travel between services in shared memory, or all in their messages.",
)
@click.option("--log-level", type=click.Choice(_LEVELS, case_sensitive=False), default="INFO", show_default=True)
@click.option("--log-format", type=click.Choice(("text", "json")), default="text", show_default=True)
@json_option
def up(
    port: int,
    data: Path,
    replicas: tuple[tuple[str, int], ...],
    registry: Path | None,
    s3: str | None,
    s3_endpoint: str | None,
    kafka: str | None,
    models: Path | None,
    triton: str | None,
    shared_memory: bool,
    log_level: str,
    log_format: str,
    out: Output,
) -> None:
    """Run the gateway, the orchestrator and the components, until Ctrl-C.

    \b
    A service that dies is started again; one that dies again and again ends everything (status 6).
    Ctrl-C ends in order: requests in flight may finish. A second Ctrl-C ends at once.
    A component with a `command` finds its port in IMAGEFLOW_PORT, and runs in the registry file's folder.
    """
    import asyncio

    from imageflow_cli.logsink import LogSink
    from imageflow_cli.models_directory import find_models
    from imageflow_cli.topology import UpOptions
    from imageflow_cli.up import run_topology

    options = UpOptions(
        port=port,
        models=find_models(models),
        triton=triton,
        replicas=dict(replicas),
        log_level=_level(log_level),
        log_format="json" if log_format == "json" else "text",
        shared_memory=shared_memory,
        environment={**_store(s3, s3_endpoint), **_broker(kafka)},
    )

    async def on_ready(state: UpState, seconds: float) -> None:
        show_ready(out, state, seconds)
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()  # until a signal comes

    sink = LogSink(sys.stderr, options.log_format)
    with start_faults(out):
        try:
            asyncio.run(run_topology(options, data=data, registry=registry, sink=sink, on_ready=on_ready))
        finally:
            sink.close()


def show_ready(out: Output, state: UpState, seconds: float) -> None:
    """What runs, and where."""
    processes = [{"name": p.name, "pid": p.pid, "address": p.address} for p in state.processes]
    out.data({"url": state.url, "seconds": round(seconds, 3), "processes": processes})
    out.table(["process", "pid", "address"], [[p.name, str(p.pid), p.address] for p in state.processes], right=["pid"])
    out.line(f"ready at {state.url} after {seconds:.1f} s")


@contextmanager
def start_faults(out: Output) -> Iterator[None]:
    """Ends this process with a line and the status that belongs to what kept a topology from running."""
    from imageflow_cli.datadir import DataInUse, DataUnusable
    from imageflow_cli.exits import Exit
    from imageflow_cli.gateway import EnvoyNotFoundError
    from imageflow_cli.ports import PortTaken
    from imageflow_cli.supervisor import GaveUp
    from imageflow_cli.topology import UnknownReplicas
    from imageflow_cli.up import NotReady

    try:
        yield
    except (PortTaken, DataInUse) as exc:
        _end(out, exc, Exit.IN_USE)
    except (GaveUp, NotReady) as exc:
        _end(out, exc, Exit.GAVE_UP)
    except (UnknownReplicas, DataUnusable) as exc:
        _end(out, exc, Exit.USAGE)
    except (EnvoyNotFoundError, OSError) as exc:
        _end(out, exc, Exit.FAILED)


def _end(out: Output, error: Exception, status: int) -> NoReturn:
    out.data({"error": {"message": str(error)}})
    out.note(f"error: {error}")
    sys.exit(status)


def _store(s3: str | None, endpoint: str | None) -> dict[str, str]:
    """What the orchestrator is told of the store besides what is in the environment."""
    if s3 is not None and not s3.startswith("s3://"):
        raise click.BadParameter("expected s3://BUCKET or s3://BUCKET/PREFIX", param_hint="--s3")
    told = {"IMAGEFLOW_STORE_URL": s3, "IMAGEFLOW_S3_ENDPOINT": endpoint}
    return {name: value for name, value in told.items() if value is not None}


def _broker(kafka: str | None) -> dict[str, str]:
    """What the orchestrator is told of the broker besides what is in the environment."""
    if kafka is None:
        return {}
    return {"IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS": kafka, "IMAGEFLOW_KAFKA_CREATE_TOPICS": "true"}


def _level(name: str) -> ServiceLogLevel:
    levels: dict[str, ServiceLogLevel] = {"DEBUG": "DEBUG", "WARNING": "WARNING", "ERROR": "ERROR"}
    return levels.get(name.upper(), "INFO")
