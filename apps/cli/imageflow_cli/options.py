"""Options that several commands share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from .output import Output

P = ParamSpec("P")
R = TypeVar("R")
Command = Callable[..., Any]

DEFAULT_URL = "http://127.0.0.1:8080"


def json_option(command: Command) -> Command:
    """Adds `--json`. The command gets `out`, and its errors, of ours, become lines and an exit status."""

    @click.option("--json", "as_json", is_flag=True, help="Answer one JSON document on standard output.")
    @functools.wraps(command)
    def wrapped(*args: Any, as_json: bool, **kwargs: Any) -> Any:
        from imageflow_common.errors import ImageFlowError

        from .exits import exit_status, show_error

        try:
            return command(*args, out=Output(as_json), **kwargs)
        except ImageFlowError as error:
            show_error(error, as_json=as_json)
            sys.exit(exit_status(error))

    return wrapped


url_option = click.option(
    "--url", envvar="IMAGEFLOW_URL", default=DEFAULT_URL, show_default=True, help="The gateway; also IMAGEFLOW_URL."
)

set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="STEP.PARAMETER=VALUE",
    help="Change a parameter for this run; may be given again.",
)

models_option = click.option(
    "--models", type=click.Path(path_type=Path, file_okay=False), help="The model repository for detect."
)

watch_option = click.option("--watch", is_flag=True, help="Show what happens until it has ended.")

output_format_options: tuple[Command, ...] = (
    click.option("--format", "output_format", default="", metavar="FORMAT", help="jpeg, png or webp."),
    click.option("--quality", type=click.IntRange(1, 100), default=None, help="Of a lossy format, 1 to 100."),
)


def output_options(command: Command) -> Command:
    """Adds `--format` and `--quality`."""
    for option in reversed(output_format_options):
        command = option(command)
    return command
