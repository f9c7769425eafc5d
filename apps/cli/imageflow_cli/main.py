"""The `imageflow` command: which subcommands there are. Each is imported when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Final, cast

import click

_COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("up", "Run the whole system on this machine."),
    "demo": ("demo", "Show it on a real photograph."),
    "doctor": ("doctor", "What is configured, what is wrong, and what to do."),
    "status": ("status", "What runs, and whether it is well."),
    "validate": ("pipeline_files", "Check a pipeline, and show its plan."),
    "run": ("run", "Run a pipeline over an image or a folder, with no server."),
    "execute": ("execute", "Run a pipeline over a stored image, on a server."),
    "process": ("execute", "Run a stored pipeline over a local image, on a server."),
    "components": ("components", "The components and their parameters."),
    "pipelines": ("pipelines", "Stored pipelines: create, get, ls, rm."),
    "executions": ("executions", "Executions: create, watch, cancel, rerun, get, ls, rm."),
    "submit": ("messages", "Run a pipeline by a message to the broker."),
    "watch": ("messages", "What all executions tell, as it happens: --all."),
    "dlq": ("messages", "Messages that could not be run: list, show, retry."),
    "observe": ("observe", "What keeps metrics, traces and logs: up, down."),
    "trace": ("trace", "Where the time of one execution went."),
    "logs": ("logs", "What the services logged of one execution."),
    "log-level": ("log_level", "Have what runs here log more, or as before."),
    "analyze": ("analyze", "How a pipeline did over some hours, and what holds it up."),
    "images": ("images", "Stored images: put, get, ls, rm."),
    "models": ("models", "The models that detect can use: add, list."),
}


class _Commands(click.Group):
    """Help lists the commands without importing any of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"{__package__}.commands.{_COMMANDS[cmd_name][0]}")
        return cast("click.Command", getattr(module, cmd_name.replace("-", "_")))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="imageflow-cli", prog_name="imageflow")
def cli() -> None:
    """Image pipelines over resident components.

    \b
    Exit status: 0 done, 1 the run failed, 2 wrong usage, 3 no server answers, 4 the pipeline has faults,
    5 the port or the data folder is in use, 6 a process does not stay alive, 130 ended by a second Ctrl-C.
    """


def main() -> None:
    """The entry point of the command."""
    try:
        cli(prog_name="imageflow")
    except BrokenPipeError:
        # Whoever read us has had enough; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
