"""The documentation says what is so: links lead somewhere, examples are valid, tables are those of the code."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from imageflow_cli.local import validate_local
from imageflow_cli.main import cli
from imageflow_common.descriptors import own_descriptors
from imageflow_orchestrator.openapi import openapi_document

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (
        ROOT / name for name in subprocess.check_output(["git", "ls-files", "*.md"], cwd=ROOT, text=True).split()
    )
    if path.exists()
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(language: str) -> list[Any]:
    return list(_blocks(language))


def _blocks(language: str) -> Iterator[Any]:
    for path in PAGES:
        found = [text for kind, text in FENCE.findall(path.read_text()) if kind == language]
        for number, text in enumerate(found):
            yield pytest.param(text, id=f"{name_of(path)}-{number}")


def command_lines(program: str) -> list[Any]:
    """The lines of every block of commands that call the program, each once."""
    found: dict[str, str] = {}
    for path in PAGES:
        for language, text in FENCE.findall(path.read_text()):
            for line in text.splitlines() if language in ("sh", "") else ():
                words = line.partition("#")[0].removeprefix(".venv/bin/").strip()
                if words.startswith(f"{program} "):
                    found.setdefault(words, name_of(path))
    return [pytest.param(line, id=f"{page}: {line[:60]}") for line, page in found.items()]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_or_a_heading(path: Path) -> None:
    text = FENCE.sub("", path.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"(https?|mailto):", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(found), f"{target}: no such heading"


@cache
def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_parts_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_variable_that_is_named_is_one_of_ours() -> None:
    code = "".join(
        path.read_text() for folder in ("libs", "apps") for path in (ROOT / folder).rglob("imageflow_*/**/*.py")
    )
    code += "".join(path.read_text() for path in (ROOT / "backends").glob("*.py"))
    code += "".join(path.read_text() for path in (ROOT / "observability").rglob("*.yaml"))
    settings = re.findall(r"`(IMAGEFLOW_\w+)` \|", (ROOT / "README.md").read_text())
    for path in PAGES:
        for variable in set(re.findall(r"\bIMAGEFLOW_[A-Z_]+\b", path.read_text())):
            assert variable in settings or variable in code, f"{name_of(path)}: {variable}"


@pytest.mark.parametrize("text", [b for b in blocks("json") if '"steps"' in b.values[0]])
def test_every_pipeline_is_valid(text: str) -> None:
    asyncio.run(validate_local(text.encode(), models=ROOT / "models", assignments=()))


@pytest.mark.parametrize("text", blocks("json"))
def test_every_example_is_json(text: str) -> None:
    json.loads(text)


@pytest.mark.parametrize("line", command_lines("imageflow"))
def test_every_imageflow_command_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group):
        context = click.Context(command)
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no {words[0]}"
        command, words = found, words[1:]
    command.make_context(command.name, words)


@pytest.mark.parametrize("line", command_lines("make"))
def test_every_make_target_exists(line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(line.split()[1:]) <= set(targets)


@pytest.mark.parametrize("line", [each for each in command_lines("curl") if "$IMAGEFLOW_PROM" not in each.values[0]])
def test_every_curl_asks_for_a_route_that_is_served(line: str) -> None:
    line = line.replace("$(cat examples/", "$(cat_examples/").replace("$IMAGEFLOW_URL", "localhost:8080")
    words = shlex.split(line)
    url = next(word for word in words if ":8080" in word)
    path = url.partition(":8080")[2].partition("?")[0]
    method = words[words.index("-X") + 1] if "-X" in words else ""
    method = method or ("PUT" if "-T" in words else "POST" if {"-d", "--data-binary"} & set(words) else "GET")
    assert any(re.fullmatch(route, path) for route in routes(method)), f"{method} {path}"
    if "-d" in words and "$(" not in line:
        json.loads(words[words.index("-d") + 1])


@cache
def routes(method: str) -> list[str]:
    paths = json.loads(openapi_document("0"))["paths"]
    asked = [path for path, item in paths.items() if method.lower() in item]
    return [re.sub(r"\{(\w+)[^}]*\}", lambda m: ".+" if m[1] == "key" else "[^/:]+", path) for path in asked]


@pytest.mark.parametrize("line", command_lines("grpcurl"))
def test_every_grpcurl_names_what_reflection_knows(line: str) -> None:
    words = shlex.split(line)
    name = words[-1]
    service, _, method = name.partition("/")
    if name == "list":
        return
    assert (
        method in own_descriptors().service(service).methods_by_name if method else own_descriptors().service(service)
    )


@pytest.mark.parametrize("path", [p for p in PAGES if name_of(p).startswith("docs/")], ids=name_of)
def test_every_test_that_is_named_exists(path: Path) -> None:
    for file, test in re.findall(r"`([\w/.]+\.py)::(\w+)`", path.read_text()):
        assert (ROOT / file).is_file(), file
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), f"{file}::{test}"


def test_every_requirement_is_answered_in_order() -> None:
    text = (ROOT / "docs/requirements.md").read_text()
    numbers = [int(number) for number in re.findall(r"^\| R(\d+) \|", text, re.M)]
    expected = [*range(1, 6), *range(10, 16), *range(20, 25), 30, 31, *range(40, 44), *range(50, 56)]
    assert numbers == [*expected, *range(60, 68), *range(70, 76), 80, 90, 91, 92, 95]


def test_every_path_of_the_requirements_exists() -> None:
    text = (ROOT / "docs/requirements.md").read_text()
    short = {
        "orchestrator": "apps/orchestrator/imageflow_orchestrator",
        "common": "libs/common/imageflow_common",
        "cli": "apps/cli/imageflow_cli",
    }
    for line in re.findall(r"^\| R.*", text, re.M):
        folder = ""
        for name in re.findall(r"`([^`:]+)`", line.split(" | ")[3]):
            head, _, rest = name.partition("/")
            if head in short:
                folder, name = short[head], f"{short[head]}/{rest}"
            elif "/" not in name:
                name = f"{folder}/{name}"
            assert (ROOT / name).exists(), name


def test_the_index_of_decisions_has_every_one() -> None:
    index = (ROOT / "docs/adr/README.md").read_text()
    for path in sorted((ROOT / "docs/adr").glob("0*.md")):
        number, title = re.match(r"# (\d+)\. (.+)\n", path.read_text()).groups()
        assert f"[{number}]({path.name}) | {title} |" in index


def test_the_pictures_of_the_first_screen_are_small() -> None:
    for name in ("before.jpg", "after.jpg"):
        assert (ROOT / "docs/images" / name).stat().st_size < 150_000
