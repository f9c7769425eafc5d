"""`imageflow models`: the repository that detect reads."""

from __future__ import annotations

from pathlib import Path

import click

from imageflow_cli.options import json_option
from imageflow_cli.output import Output

_FOLDER = click.Path(path_type=Path, file_okay=False)
_models_option = click.option(
    "--models", "folder", type=_FOLDER, help="The repository; else IMAGEFLOW_MODELS_DIRECTORY, else ./models."
)


@click.group()
def models() -> None:
    """The models that detect can use."""


@models.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", required=True, help="The name that pipelines use, as modelName.")
@click.option("--labels", required=True, help="The classes, in the model's order: a,b,c. Or @FILE, one a line.")
@click.option("--version", type=click.IntRange(1), default=1, show_default=True, help="A larger number is newer.")
@click.option("--licence", default="unknown", show_default=True, help="Under which the model may be used.")
@click.option("--source", default="", help="Where it comes from; without it, the file's name.")
@_models_option
@json_option
def add(
    file: Path, name: str, labels: str, version: int, licence: str, source: str, folder: Path | None, out: Output
) -> None:
    """Add an ONNX detection model in FILE, after proof that it runs."""
    from imageflow_cli.models_directory import find_models
    from imageflow_detect.adding import add_model
    from imageflow_detect.models import ModelRepository

    repository = ModelRepository(find_models(folder))
    with out.working(f"trying {file.name}"):
        model = add_model(
            repository,
            file,
            name=name,
            labels=_read_labels(labels),
            version=version,
            licence=licence,
            source=source or file.name,
        )
    out.data({"name": model.name, "version": model.version, "labels": list(model.labels), "file": str(model.file)})
    out.line(f"added {model.name} version {model.version}: {', '.join(model.labels)}")


@models.command(name="list")
@_models_option
@json_option
def list_(folder: Path | None, out: Output) -> None:
    """List the models."""
    from imageflow_cli.models_directory import find_models
    from imageflow_detect.models import ModelRepository

    repository = ModelRepository(find_models(folder))
    found = [(name, repository.versions(name), repository.resolve(name)) for name in repository.names()]
    out.data([{"name": name, "versions": list(versions), "labels": list(m.labels)} for name, versions, m in found])
    rows = [[name, ", ".join(map(str, versions)), ", ".join(m.labels)] for name, versions, m in found]
    out.table(["model", "versions", "labels"], rows)
    if not found:
        out.note(f"no models in {repository.directory}")


def _read_labels(text: str) -> list[str]:
    from imageflow_cli.definitions import read_file

    if not text.startswith("@"):
        return [label.strip() for label in text.split(",")]
    lines = read_file(Path(text[1:])).decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip()]
