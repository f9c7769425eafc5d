"""A component that a user brings: one .proto, one function, one registry entry, and nothing of the product changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from . import pictures
from .callers import grpc_refusal, http_refusal
from .product import TREE, imageflow
from .workshop import installed

if TYPE_CHECKING:
    from .workshop import Workshop

BOTH = pytest.mark.parametrize("name", ["tint", "wash"], ids=["started by up", "running elsewhere"])


def pipeline(name: str, **parameters: object) -> dict[str, Any]:
    return {
        "pipelineId": f"painted-{name}",
        "version": "1",
        "steps": [
            {"stepId": "fit", "componentName": "resize", "parameters": {"width": 100, "height": 100}},
            {"stepId": "paint", "componentName": name, "dependencies": ["fit"], "parameters": parameters},
        ],
    }


@BOTH
def test_it_works_in_a_pipeline_and_says_where_its_time_went(workshop: Workshop, name: str) -> None:
    callers = workshop.callers
    stored = callers.post("/v1/pipelines", pipeline(name, color="green", strength=1, **{"drying-time": 0.05}))
    assert stored.status_code == 200, stored.text
    response = callers.http.post(
        f"/v1/pipelines/painted-{name}:process", content=pictures.photo(), params={"outputFormat": "png"}
    )
    assert response.status_code == 200, response.text
    pixels = np.asarray(pictures.decoded(response.content))
    assert pixels.shape == (100, 100, 3)
    assert (pixels == (0, 255, 0)).all()
    breakdown = re.search(r'paint;dur=([\d.]+);desc="queue=\S+ .*compute=([\d.]+) ', response.headers["server-timing"])
    assert breakdown
    assert float(breakdown[1]) >= float(breakdown[2]) >= 50


@BOTH
def test_what_it_finds_out_is_in_the_execution(workshop: Workshop, name: str) -> None:
    callers = workshop.callers
    callers.http.put("/v1/images/acme/photo.jpg", content=pictures.photo(), headers={"content-type": "image/jpeg"})
    request = {"pipeline": pipeline(name), "inputPath": "acme/photo.jpg", "overrides": {"paint.color": "blue"}}
    execution = callers.post("/v1/pipelines:execute", request).json()
    assert execution["status"] == "COMPLETED", execution
    assert execution["results"]["paint"]["metadata"] == {"color": "blue"}
    transport = {"tint": "shared-memory", "wash": "inline"}[name]
    plan = callers.post("/v1/pipelines:validate", {"pipeline": pipeline(name)}).json()
    assert plan["steps"][1]["transport"] == transport


@BOTH
def test_its_parameters_are_checked_before_anything_runs(workshop: Workshop, name: str) -> None:
    wrong = pipeline(name, color="purple", strength=1.5, drying_time="long", strenght=1)
    refusal = http_refusal(workshop.callers.post("/v1/pipelines:validate", {"pipeline": wrong}))
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_PIPELINE")
    places = {place.removeprefix("steps[paint].parameters."): what for place, what in refusal.faults.items()}
    assert set(places) == {"color", "strength", "dryingTime", "strenght"}
    assert "red, green, blue" in places["color"].replace("'", "")
    assert "1" in places["strength"]
    assert "strength" in places["strenght"]
    alone = grpc_refusal(lambda: workshop.callers.process_grpc(pictures.photo(), component=name, set=["color=purple"]))
    assert alone.code == "INVALID_ARGUMENT"
    assert "color" in alone.text


@BOTH
def test_its_help_comes_from_its_proto(workshop: Workshop, name: str) -> None:
    component = workshop.callers.http.get(f"/v1/components/{name}").json()
    assert component["summary"] == "Lays a colour over an image."
    parameters = component["parametersSchema"]["properties"]
    assert parameters["color"]["enum"] == ["red", "green", "blue"]
    assert parameters["strength"]["description"] == "How much of the colour there is in the result."
    assert (parameters["dryingTime"]["maximum"], parameters["dryingTime"]["x-unit"]) == (20, "s")


def test_the_command_shows_its_help(workshop: Workshop) -> None:
    shown = imageflow("components", "tint", "--url", workshop.product.url)
    assert shown.returncode == 0, shown.stderr
    for words in (
        "Lays a colour over an image.",
        "dryingTime",
        "red, green, blue",
        "0 … 20",
        "How long the paint dries.",
    ):
        assert words in shown.stdout


def test_not_a_byte_of_the_product_has_changed(workshop: Workshop) -> None:
    assert workshop.callers.http.get("/readyz").json()["components"] == ["detect", "filter", "resize", "tint", "wash"]
    assert not workshop.folder.is_relative_to(TREE)
    assert installed() == workshop.installed_before
