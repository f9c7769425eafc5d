"""What detect answers where Triton cannot do what is asked. Rows of docs/errors.md."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from . import pictures
from .callers import http_refusal
from .inference import DARK, NOT_SERVED
from .product import eventually

if TYPE_CHECKING:
    import httpx

    from .error_table import Row
    from .inference import Inferring


def detect(inferring: Inferring, *assignments: str) -> httpx.Response:
    return inferring.callers.process_http(pictures.coins(), "image/png", "detect", set=assignments)


def test_a_model_that_triton_does_not_serve(inferring: Inferring, row: Row) -> None:
    row.refuses(detect(inferring, f"modelName={NOT_SERVED}"), NOT_SERVED)
    assert detect(inferring, "modelName=coins").status_code == 200


def test_a_model_on_triton_that_answers_nan(inferring: Inferring, row: Row) -> None:
    for _ in range(2):
        row.refuses(detect(inferring, f"modelName={DARK}", "onUnavailable=local"), "no finite number")
    assert detect(inferring, "modelName=coins").status_code == 200


def test_an_unknown_version_of_a_model(inferring: Inferring, row: Row) -> None:
    row.refuses(detect(inferring, "modelName=coins", "modelVersion=9"), "'9'", "there are: 1")


def test_a_thousand_at_once_for_a_model_that_is_not_loaded(inferring: Inferring, row: Row) -> None:
    with ThreadPoolExecutor(64) as pool:
        answers = pool.map(lambda _: http_refusal(detect(inferring, f"modelName={NOT_SERVED}")), range(1000))
        found = Counter((answer.code, answer.reason) for answer in answers)
    assert found.pop((row.code, row.reason)) > 0
    assert set(found) <= {("RESOURCE_EXHAUSTED", "OVERLOADED")}
    assert eventually(lambda: detect(inferring, "modelName=coins").status_code == 200)


def test_a_triton_that_is_away(inferring: Inferring, row: Row) -> None:
    inferring.triton.kill()
    try:
        row.refuses(detect(inferring, "modelName=coins"), "inference server")
    finally:
        inferring.bring_back()
