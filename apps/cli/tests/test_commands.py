"""The command line: what it takes, prints and ends with. No server runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imageflow_cli.commands.components import parameter_row
from imageflow_cli.definitions import format_of, media_type_of, read_settings, typed
from imageflow_cli.exits import Exit, ServerUnreachable, UsageFault, exit_status
from imageflow_cli.main import cli
from imageflow_cli.output import Output, byte_size
from imageflow_cli.ports import free_ports
from imageflow_common.errors import ImageFlowError, InvalidArgument, InvalidPipeline, NotFound, Unavailable

from .conftest import EXAMPLES

BAD = {
    "pipelineId": "p",
    "steps": [{"stepId": "a", "componentName": "resize", "parameters": {"widht": 1, "height": 0}}],
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IMAGEFLOW_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_help_lists_every_command_and_the_exit_statuses() -> None:
    text = invoke("--help").output
    for name in ("up", "demo", "validate", "run", "components", "models", "images", "3 no server answers"):
        assert name in text


def test_help_imports_nothing_heavy() -> None:
    source = (
        "import sys\nsys.argv = ['imageflow', '--help']\nfrom imageflow_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'grpc', 'google', 'numpy', 'rich', 'yaml', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert answer.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["nonsense"],
        ["images", "put"],
        ["run", "none.json", "none.png", "-o", "out.png"],
        ["process", "p", "none.png", "-o", "out.png"],
        ["images", "put", "none.png"],
        ["components", "--url", "ftp://somewhere"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == Exit.USAGE


@pytest.mark.parametrize(
    "arguments", [["components"], ["pipelines", "ls"], ["images", "ls"], ["executions", "get", "e"], ["status"]]
)
def test_without_a_server_it_is_status_3(arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    result = invoke(*arguments, "--url", url)
    assert result.exit_code == Exit.UNREACHABLE
    assert f"{url}" in result.output
    assert "no server answers" in result.output


def test_each_violation_is_on_a_line_with_its_field(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(json.dumps(BAD))
    result = invoke("validate", "bad.json")
    assert result.exit_code == Exit.INVALID_PIPELINE
    assert "  steps[a].parameters.widht: unknown parameter; did you mean 'width'?" in result.stderr.splitlines()
    assert "  steps[a].parameters.height: at least 1 px, got 0" in result.stderr.splitlines()
    assert result.stdout == ""


def test_errors_are_json_where_json_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(json.dumps(BAD))
    result = invoke("validate", "bad.json", "--json")
    assert result.exit_code == Exit.INVALID_PIPELINE
    error = json.loads(result.stdout)["error"]
    assert error["reason"] == "INVALID_PIPELINE"
    assert {violation["field"] for violation in error["violations"]} == {
        "steps[a].parameters.widht",
        "steps[a].parameters.height",
    }


def test_text_that_is_not_json_is_an_invalid_pipeline_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{\n  "steps": [,]\n}')
    result = invoke("validate", "bad.json")
    assert result.exit_code == Exit.INVALID_PIPELINE
    assert "bad.json:2:13: not JSON" in result.stderr


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_every_example_is_a_valid_pipeline(example: Path) -> None:
    result = invoke("validate", str(example), "--json")
    assert result.exit_code == Exit.OK, result.output
    assert {step["target"] for step in json.loads(result.stdout)["steps"]} == {"default"}


def test_run_writes_the_image_and_says_where_the_time_went(tmp_path: Path) -> None:
    from imageflow_cli.demo import photograph

    (tmp_path / "coins.png").write_bytes(photograph())
    result = invoke(
        "run", str(EXAMPLES / "resize-filter.json"), "coins.png", "-o", "out.jpg", "--set", "resize.width=90"
    )
    assert result.exit_code == Exit.OK, result.output
    assert (tmp_path / "out.jpg").read_bytes()[:2] == b"\xff\xd8"
    header, *rows = [line.split() for line in result.stdout.splitlines()[1:4]]
    assert header == ["step", "status", "queue", "transport", "decode", "compute", "encode", "retries", "total"]
    assert [row[:2] for row in rows] == [["resize", "COMPLETED"], ["sharpen", "COMPLETED"]]


def test_run_of_what_is_no_image_fails_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no image")
    result = invoke("run", str(EXAMPLES / "resize.json"), "no.png", "-o", "out.png")
    assert result.exit_code == Exit.FAILED
    assert not (tmp_path / "out.png").exists()


def test_models_that_are_not_there_are_said_to_be_none(tmp_path: Path) -> None:
    result = invoke("models", "list", "--models", str(tmp_path / "none"), "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (Exit.OK, [])


def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    result = invoke("models", "add", "x.onnx", "--name", "x", "--labels", "a,b", "--models", "models")
    assert result.exit_code == Exit.FAILED
    assert "x.onnx cannot be used: the model's file is cut short, or no ONNX model at all" in result.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ServerUnreachable("x"), 3),
        (Unavailable("x"), 1),
        (UsageFault("x"), 2),
        (InvalidPipeline("x"), 4),
        (InvalidArgument("x", reason="INVALID_PARAMETERS"), 4),
        (InvalidArgument("x", reason="INVALID_IMAGE"), 1),
        (NotFound("x"), 1),
        (ImageFlowError(), 1),
    ],
)
def test_every_error_has_its_status(error: ImageFlowError, status: int) -> None:
    assert exit_status(error) == status


def test_settings_are_read_and_every_wrong_one_reported() -> None:
    assert read_settings(["a.width=3", "b.text=x=y", "c.empty="]) == {"a.width": "3", "b.text": "x=y", "c.empty": ""}
    assert read_settings(["width=3"], dotted=False) == {"width": "3"}
    with pytest.raises(InvalidPipeline) as caught:
        read_settings(["width=3", "a.b", "a.c=1", "a.c=2"])
    assert [violation.field for violation in caught.value.violations] == ["width=3", "a.b", "a.c"]


def test_values_for_json_are_json_where_they_can_be() -> None:
    assert typed({"a": "3", "b": "true", "c": "gaussian", "d": '["x"]', "e": ""}) == {
        "a": 3,
        "b": True,
        "c": "gaussian",
        "d": ["x"],
        "e": "",
    }


@pytest.mark.parametrize(
    ("name", "media_type", "output_format"),
    [
        ("a.JPG", "image/jpeg", "image/jpeg"),
        ("a.webp", "image/webp", "image/webp"),
        ("a", "application/octet-stream", ""),
    ],
)
def test_an_ending_says_what_a_file_is(name: str, media_type: str, output_format: str) -> None:
    assert (media_type_of(Path(name)), format_of(Path(name))) == (media_type, output_format)


@pytest.mark.parametrize("command", [["run", str(EXAMPLES / "resize.json")], ["process", "p"]])
@pytest.mark.parametrize("output", ["o.bmp", "o.tiff", "o.txt"])
def test_an_ending_that_is_no_output_formats_is_wrong_usage(command: list[str], output: str, tmp_path: Path) -> None:
    result = invoke(*command, "in.png", "-o", str(tmp_path / output))
    assert result.exit_code == 2
    assert "there are .jpg, .jpeg, .png, .webp" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("schema", "row"),
    [
        (
            {
                "type": "integer",
                "minimum": 1,
                "maximum": 32768,
                "default": 800,
                "x-unit": "px",
                "description": "W.\nX.",
            },
            ["width", "integer", "800", "1 … 32768", "px", "W. X."],
        ),
        ({"type": "string", "enum": ["a", "b"], "default": "a"}, ["width", "string", '"a"', "a, b", "", ""]),
        ({"type": "array", "items": {"type": "string"}}, ["width", "string list", "", "", "", ""]),
        ({"type": "number", "minimum": 0}, ["width", "number", "", "0 …", "", ""]),
    ],
)
def test_a_parameter_is_a_row(schema: dict[str, object], row: list[str]) -> None:
    assert parameter_row("width", schema) == row


def test_a_table_elsewhere_than_on_a_terminal_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(["name", "ms"], [["resize", "1.0"], ["[red]", "10.0"]], right=["ms"])
    assert capsys.readouterr().out == "name      ms\nresize   1.0\n[red]   10.0\n"


def test_json_output_has_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=True)
    out.line("x")
    out.table(["a"], [["b"]])
    out.note("c")
    with out.working("d"):
        out.data({"ä": 1})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"ä": 1}
    assert captured.err == ""


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2_000_000, "2.0 MB"), (5 * 10**12, "5000.0 GB")]
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert byte_size(count) == text
