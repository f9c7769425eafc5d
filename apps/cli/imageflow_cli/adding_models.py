"""Models from a file, or from those that are known by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imageflow_cli.definitions import read_file
from imageflow_cli.demo import scikit_image_photograph
from imageflow_common.images.decode import decode
from imageflow_common.pixels import Pixels
from imageflow_detect import openimages
from imageflow_detect.adding import Added, Told, accept_model, add_model
from imageflow_detect.models import ModelRepository


def is_known(name: str) -> bool:
    """Whether it is a model that can be fetched. A file of that name is meant by its path: ./NAME."""
    return name == openimages.NAME


def add_known(repository: ModelRepository, name: str, *, version: int, picture: Path | None) -> Added:
    """Fetches it, unless it is in the cache, and adds it under its own name. Raises as `openimages.fetch` and
    `adding.accept_model` do."""
    file, manifest = openimages.fetch(openimages.cache_directory())
    model, found = accept_model(repository, file, manifest, version=version, photograph=_photograph(picture))
    return Added(model, (f"{manifest.source}; {manifest.licence}; trained by {manifest.trained_by}",), found)


def add_file(
    repository: ModelRepository,
    file: Path,
    *,
    name: str,
    labels: Sequence[str],
    version: int,
    licence: str,
    source: str,
    told: Told,
    picture: Path | None,
) -> Added:
    """Raises as `adding.add_model` does."""
    return add_model(
        repository,
        file,
        name=name,
        labels=labels,
        version=version,
        licence=licence,
        source=source,
        told=told,
        photograph=_photograph(picture),
    )


def _photograph(picture: Path | None) -> Pixels:
    """An astronaut before a flag and a model of a shuttle, when none is given. Raises NotFound when that is not here,
    and what is wrong with a picture."""
    return decode(read_file(picture) if picture else scikit_image_photograph("astronaut", otherwise="--try"))
