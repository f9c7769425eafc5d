"""Bad images: each is refused by what it is, and only by the step that it came to. Rows of docs/errors.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from . import pictures
from .callers import MIB, json_refusal, post_while_reading

if TYPE_CHECKING:
    from .callers import Callers
    from .error_table import Row
    from .product import Product

pytestmark = pytest.mark.usefixtures("then_it_still_serves")


def refuses(
    callers: Callers, row: Row, image: bytes, *words: str, content_type: str = "", query: dict[str, Any] | None = None
) -> None:
    """Over HTTP and over gRPC."""
    asked = query or {}
    snake = {{"outputFormat": "output_format"}.get(name, name): value for name, value in asked.items()}
    row.refuses(callers.process_http(image, content_type, **asked), *words)
    row.refuses(lambda: callers.process_grpc(image, content_type, **snake), *words)


def takes(callers: Callers, row: Row, image: bytes, **query: Any) -> Image.Image:
    """Over HTTP and over gRPC, with the same answer."""
    response = callers.process_http(image, **query)
    row.takes(response)
    snake = {{"outputFormat": "output_format"}.get(name, name): value for name, value in query.items()}
    assert callers.process_grpc(image, **snake).data == response.content
    return pictures.decoded(response.content)


def test_an_empty_body(callers: Callers, row: Row) -> None:
    refuses(callers, row, b"", "empty")


def test_a_page_of_html_named_as_a_jpeg(callers: Callers, row: Row) -> None:
    page = b"<!doctype html><title>404</title><p>Not here." + bytes(1000)
    refuses(callers, row, page, "not JPEG, PNG, WebP, TIFF or GIF", content_type="image/jpeg")


def test_a_jpeg_cut_short(callers: Callers, row: Row) -> None:
    photo = pictures.photo()
    refuses(callers, row, photo[: len(photo) // 2], "JPEG", "cut short", content_type="image/jpeg")


def test_a_single_pixel(callers: Callers, row: Row) -> None:
    assert takes(callers, row, pictures.one_pixel()).size == (1, 1)


def test_a_png_of_400_megapixels(callers: Callers, row: Row) -> None:
    bomb = pictures.bomb()
    assert len(bomb) < MIB
    refuses(callers, row, bomb, "20000×20000 pixels")


def test_a_gif_of_10000_frames(callers: Callers, row: Row) -> None:
    refuses(callers, row, pictures.long_film(), "more than 1000 frames")


def test_16_bits_a_sample(callers: Callers, row: Row) -> None:
    image = takes(callers, row, pictures.deep(), outputFormat="png")
    assert image.mode.startswith("I;16")
    assert image.getextrema()[1] > 60_000


def test_a_cmyk_jpeg(callers: Callers, row: Row) -> None:
    assert takes(callers, row, pictures.cmyk()).mode == "RGB"


def test_a_wrong_content_type(callers: Callers, row: Row) -> None:
    refuses(callers, row, pictures.photo(), "image/png", "image/jpeg", content_type="image/png")


def test_a_body_of_100_mb(callers: Callers, row: Row, product: Product) -> None:
    status, body = post_while_reading(product.port, "/v1/components/resize:process", 100_000_000)
    row.refuses(json_refusal(status, json.loads(body)), "larger than this request may have")


def test_a_message_of_100_mb(callers: Callers, row: Row) -> None:
    row.refuses(lambda: callers.process_grpc(bytes(100_000_000)), "larger than this call may have")


def test_an_output_format_that_is_none(callers: Callers, row: Row) -> None:
    refuses(callers, row, pictures.photo(), "jpeg, png or webp", "bmp", query={"outputFormat": "bmp"})


def test_a_quality_of_101(callers: Callers, row: Row) -> None:
    refuses(callers, row, pictures.photo(), "1 to 100", "101", query={"quality": 101})


def test_a_bad_image_in_the_store(callers: Callers, row: Row) -> None:
    """A run that failed is an answer: 200, with the step, its error and the results so far."""
    photo = pictures.photo()
    callers.http.put("/v1/images/bad/short.jpg", content=photo[:9000], headers={"content-type": "image/jpeg"})
    steps = [
        {"stepId": "fit", "componentName": "resize"},
        {"stepId": "edges", "componentName": "filter", "dependencies": ["fit"]},
    ]
    request = {"pipeline": {"pipelineId": "bad", "steps": steps}, "inputPath": "bad/short.jpg"}
    response = callers.post("/v1/pipelines:execute", request)
    execution = response.json()
    assert response.status_code == row.http_status
    assert (execution["error"]["code"], execution["error"]["reason"]) == (row.code, row.reason)
    assert (execution["status"], execution["error"]["stepId"]) == ("FAILED", "fit")
    assert "cut short" in execution["error"]["message"]
    assert execution["results"]["edges"]["skipReason"] == "DEPENDENCY_FAILED"
