"""`imageflow doctor`: what is configured, what can be reached, what is wrong, and what to do."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from imageflow_cli.options import json_option, url_option
from imageflow_cli.output import Output


@click.command()
@url_option
@json_option
def doctor(url: str, out: Output) -> None:
    """Look at each part that the settings of this environment name. Ends with status 1 when something is wrong."""
    from imageflow_cli.doctor import examine
    from imageflow_cli.exits import Exit

    findings = examine(url)
    out.data([asdict(each) for each in findings])
    out.table(["part", "configured", "state"], [[each.part, each.configured, each.state] for each in findings])
    wrong = [each for each in findings if each.problem]
    for each in wrong:
        out.line(f"{each.part}: {each.problem}. {each.advice}")
    if wrong:
        sys.exit(Exit.FAILED)
