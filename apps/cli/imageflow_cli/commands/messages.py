"""`imageflow submit`, `watch`, `dlq`: requests by message, what all executions tell, and what was set aside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imageflow_cli.options import json_option, set_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow_cli.broker import Told
    from imageflow_common.kafka_dead_letters import Buried

kafka_option = click.option(
    "--kafka", "servers", metavar="HOST:PORT", default=None, help="The broker; also IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS."
)


@click.command()
@click.argument("pipeline", default="")
@click.option("--pipeline-id", default="", help="A stored pipeline, in place of PIPELINE.")
@click.option("--version", default="", help="The version of a stored pipeline.")
@click.option("--input", "input_path", default="", metavar="KEY", help="The input image in the store.")
@click.option("--output", "output_path", default="", metavar="KEY", help="The key to write the output to.")
@click.option("--execution-id", default="", help="The execution's id; the same again is the same execution.")
@click.option("--namespace", default="", help="Whose execution it is; without it, `default`.")
@click.option("--wait", is_flag=True, help="Wait for its completion.")
@set_option
@kafka_option
@json_option
def submit(
    pipeline: str,
    pipeline_id: str,
    version: str,
    input_path: str,
    output_path: str,
    execution_id: str,
    namespace: str,
    wait: bool,
    settings: tuple[str, ...],
    servers: str | None,
    out: Output,
) -> None:
    """Have PIPELINE (a JSON file) run over a stored image, by a message to the broker."""
    import asyncio
    from uuid import uuid4

    from imageflow_cli.broker import broker_settings
    from imageflow_cli.definitions import read_definition, read_settings, typed
    from imageflow_cli.exits import Exit, UsageFault

    if bool(pipeline) == bool(pipeline_id):
        raise UsageFault("give either PIPELINE or --pipeline-id")
    config: dict[str, object] = (
        read_definition(Path(pipeline))
        if pipeline
        else {"pipelineId": pipeline_id, **({"version": version} if version else {})}
    )
    inputs = {"input_path": input_path, "output_path": output_path}
    request = {
        "execution_id": execution_id or str(uuid4()),
        "pipeline_config": config,
        "input_data": {name: value for name, value in inputs.items() if value},
        "parameters": typed(read_settings(settings)),
    }
    told = asyncio.run(_submit(broker_settings(servers), request, namespace, wait=wait, out=out))
    out.data(told or {"execution_id": request["execution_id"]})
    out.line(_line(told) if told else str(request["execution_id"]))
    if told and told["status"] != "completed":
        sys.exit(Exit.FAILED)


@click.command()
@click.option("--all", "every", is_flag=True, help="Every execution there is.")
@kafka_option
@json_option
def watch(every: bool, servers: str | None, out: Output) -> None:
    """Show what executions tell as it happens, until Ctrl-C; with --json one object a line.

    Of one execution, `imageflow executions watch` tells more, and needs no broker.
    """
    import asyncio
    from contextlib import suppress

    from imageflow_cli.broker import broker_settings
    from imageflow_cli.exits import UsageFault

    if not every:
        raise UsageFault("give --all; for one execution: imageflow executions watch EXECUTION_ID")
    with suppress(KeyboardInterrupt):
        asyncio.run(_watch(broker_settings(servers), out))


@click.group()
def dlq() -> None:
    """Messages that could not be run: list, show, retry."""


@dlq.command("list")
@kafka_option
@json_option
def list_letters(servers: str | None, out: Output) -> None:
    """List what was set aside, with the reason of each."""
    letters = _letters(servers)
    out.data([_summary(letter) for letter in letters])
    rows = [[each["place"], each["key"], each["time"], each["reason"]] for each in map(_summary, letters)]
    out.table(["place", "key", "set aside", "reason"], rows)


@dlq.command()
@click.argument("place")
@kafka_option
@json_option
def show(place: str, servers: str | None, out: Output) -> None:
    """Show one, by its PLACE, as it came."""
    letter = _letter(place, servers)
    headers = {name: value.decode(errors="replace") for name, value in letter.headers}
    body = letter.body.decode(errors="replace")
    out.data({**_summary(letter), "headers": headers, "body": body, "left_out": letter.left_out})
    for name, value in {**_summary(letter), **headers}.items():
        out.line(f"{name}: {value}")
    out.line()
    out.line("(its body was too large to be kept)" if letter.left_out else body)


@dlq.command()
@click.argument("places", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@kafka_option
@json_option
def retry(places: tuple[str, ...], every: bool, servers: str | None, out: Output) -> None:
    """Send again, as they came, what is at these PLACES. They stay listed."""
    import asyncio

    from imageflow_cli.broker import broker_settings, send_again
    from imageflow_cli.exits import UsageFault

    if bool(places) == every:
        raise UsageFault("give PLACES, or --all")
    settings = broker_settings(servers)
    letters = [each for each in _letters(servers) if not each.left_out] if every else []
    letters += [_letter(place, servers) for place in places]
    for letter in letters:
        asyncio.run(send_again(settings, letter))
        out.line(f"{letter.place}: sent again")
    out.data([letter.place for letter in letters])


async def _submit(settings: Any, request: dict[str, Any], namespace: str, *, wait: bool, out: Output) -> Any:
    from imageflow_cli.broker import listening, send_request

    if not wait:
        await send_request(settings, request, namespace)
        return None
    async with listening(settings) as told:
        await send_request(settings, request, namespace)
        async for each in told:
            if each.body["execution_id"] == request["execution_id"]:
                if each.completion:
                    return each.body
                out.note(_line(each.body))
    return None


async def _watch(settings: Any, out: Output) -> None:
    import json

    from imageflow_cli.broker import listening

    async with listening(settings) as told:
        out.note("listening; Ctrl-C ends")
        async for each in told:
            print(json.dumps(each.body, ensure_ascii=False) if out.as_json else _told(each), flush=True)


def _told(each: Told) -> str:
    return f"{_line(each.body)} · done" if each.completion else _line(each.body)


def _line(body: dict[str, Any]) -> str:
    """One line of what was told."""
    who = f"{body['execution_id']} {body.get('step_id') or ''}".rstrip()
    words = [body.get("timestamp") or body.get("completed_at") or "", who, body["status"]]
    words += [text for text in (body.get("output_path"), body.get("message")) if text]
    return "  ".join(str(word) for word in words)


def _letters(servers: str | None) -> list[Buried]:
    from imageflow_cli.broker import REQUESTS, broker_settings

    settings = broker_settings(servers)
    from imageflow_common.kafka_dead_letters import buried

    return list(buried(settings, REQUESTS))


def _letter(place: str, servers: str | None) -> Buried:
    from imageflow_cli.exits import UsageFault

    found = [letter for letter in _letters(servers) if letter.place == place]
    if not found:
        raise UsageFault(f"there is no dead letter at {place}; `imageflow dlq list` shows where they are")
    return found[0]


def _summary(letter: Buried) -> dict[str, str]:
    key = (letter.key or b"").decode(errors="replace")
    return {"place": letter.place, "key": key, "reason": letter.reason, "time": letter.about.get("time", "")}
