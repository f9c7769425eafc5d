"""`imageflow models`: the repository that detect reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from imageflow_cli.exits import UsageFault
from imageflow_cli.options import json_option
from imageflow_cli.output import Output

if TYPE_CHECKING:
    from imageflow_detect.adding import Added, Values
    from imageflow_detect.manifest import Size
    from imageflow_detect.models import ModelRepository

LAYOUTS = ("yolo_v8", "yolo_v5", "end_to_end", "ssd")
VALUES = ("0..1", "-1..1", "0..255", "imagenet")
_PICTURE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_models_option = click.option(
    "--models", "folder", type=_FOLDER, help="The repository; else IMAGEFLOW_MODELS_DIRECTORY, else ./models."
)


@click.group()
def models() -> None:
    """The models that detect can use."""


@models.command()
@click.argument("file")
@click.option("--name", help="The name that pipelines use, as modelName.")
@click.option("--labels", help="The classes, in the model's order: a,b,c. Or @FILE, one a line.")
@click.option("--version", type=click.IntRange(1), default=1, show_default=True, help="A larger number is newer.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="How the outputs are read; else guessed from their shapes.")
@click.option("--size", metavar="WIDTHxHEIGHT", help="The input's size, where the file leaves it open; else 640x640.")
@click.option("--values", type=click.Choice(VALUES), help="What pixels become; else 0..1.")
@click.option("--colour-order", type=click.Choice(["rgb", "bgr"]), default="rgb", show_default=True)
@click.option("--fit", type=click.Choice(["letterbox", "stretch"]), default="letterbox", show_default=True)
@click.option("--licence", default="unknown", show_default=True, help="Under which the model may be used.")
@click.option("--source", default="", help="Where it comes from; without it, the file's name.")
@click.option("--try", "picture", type=_PICTURE, help="The photograph that it is tried on; else one of an astronaut.")
@_models_option
@json_option
def add(
    file: str,
    name: str | None,
    labels: str | None,
    version: int,
    layout: str | None,
    size: str | None,
    values: Values | None,
    colour_order: Literal["rgb", "bgr"],
    fit: Literal["letterbox", "stretch"],
    licence: str,
    source: str,
    picture: Path | None,
    folder: Path | None,
    out: Output,
) -> None:
    """Add a detection model, after proof that it runs.

    FILE is an ONNX file, or the name of a model that is known and can be fetched: openimages-ssd.
    """
    from imageflow_cli.adding_models import add_file, add_known, is_known
    from imageflow_cli.models_directory import find_own_models
    from imageflow_detect.adding import Told
    from imageflow_detect.models import ModelRepository

    repository = ModelRepository(find_own_models(folder))
    with out.working(f"trying {Path(file).name}"):
        if is_known(file):
            added = add_known(repository, file, version=version, picture=picture)
        else:
            told = Told(layout, _read_size(size), values, colour_order, fit)
            if name is None or labels is None:
                raise UsageFault("an ONNX file needs --name and --labels")
            added = add_file(
                repository,
                Path(file),
                name=name,
                labels=_read_labels(labels),
                version=version,
                licence=licence,
                source=source or Path(file).name,
                told=told,
                picture=picture,
            )
    _say(added, out)


@models.command()
@click.argument("name")
@click.option("--version", default="", help="Only this version.")
@_models_option
@json_option
def remove(name: str, version: str, folder: Path | None, out: Output) -> None:
    """Remove a model, or a version of it. What runs with it ends as it would have."""
    from imageflow_cli.models_directory import find_own_models
    from imageflow_detect.adding import remove_model
    from imageflow_detect.models import ModelRepository

    remove_model(ModelRepository(find_own_models(folder)), name, version)
    out.data({"name": name, "version": version or None})
    out.line(f"removed {name}" + (f" version {version}" if version else ""))


@models.command(name="list")
@_models_option
@json_option
def list_(folder: Path | None, out: Output) -> None:
    """List the models."""
    from imageflow_cli.models_directory import find_models
    from imageflow_detect.models import ModelRepository

    repository = ModelRepository(find_models(folder))
    found = [_listed(repository, name) for name in repository.names()]
    out.data(found)
    rows = [
        [
            each["name"],
            ", ".join(map(str, each["versions"])),
            each["licence"],
            each["fault"] or ", ".join(each["labels"]),
        ]
        for each in found
    ]
    out.table(["model", "versions", "licence", "labels"], rows)
    if not found:
        out.note(f"no models in {repository.directory}")


def _listed(repository: ModelRepository, name: str) -> dict[str, Any]:
    """What there is to know of a model; of one that cannot be used, its fault."""
    from imageflow_detect.manifest import ModelInvalid

    known = {"name": name, "versions": list(repository.versions(name))}
    try:
        manifest = repository.resolve(name).manifest
    except ModelInvalid as exc:
        return {**known, "labels": [], "layout": "", "licence": "", "source": "", "fault": exc.message}
    return {
        **known,
        "labels": list(manifest.labels),
        "layout": manifest.output.layout,
        "licence": manifest.licence,
        "source": manifest.source,
        "fault": "",
    }


def _say(added: Added, out: Output) -> None:
    model = added.model
    found = [{"label": each.label, "confidence": round(each.confidence, 3)} for each in added.found]
    out.data(
        {
            "name": model.name,
            "version": model.version,
            "labels": list(model.labels),
            "layout": model.manifest.output.layout,
            "file": str(model.file),
            "remarks": list(added.remarks),
            "tried": found,
        }
    )
    for remark in added.remarks:
        out.line(remark)
    seen = ", ".join(f"{each.label} {each.confidence:.2f}" for each in added.found) or "nothing"
    out.line(f"tried on a photograph: found {seen}")
    out.line(f"added {model.name} version {model.version}: {', '.join(model.labels)}")


def _read_size(text: str | None) -> Size | None:
    from imageflow_detect.manifest import MAX_SIDE, Size

    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or not all(1 <= int(side) <= MAX_SIDE for side in match.groups()):
        raise UsageFault(f"--size is WIDTHxHEIGHT, each 1 to {MAX_SIDE}, not {text!r}")
    return Size(width=int(match[1]), height=int(match[2]))


def _read_labels(text: str) -> list[str]:
    from imageflow_cli.definitions import read_file

    if not text.startswith("@"):
        return [label.strip() for label in text.split(",")]
    lines = read_file(Path(text[1:])).decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip()]
