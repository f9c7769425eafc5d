from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from imageflow.v1.detect_pb2 import DetectMetadata
from imageflow_common.pixels import Pixels
from imageflow_detect.app import build
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.detect import Detector
from imageflow_detect.models import ModelRepository
from imageflow_detect.toy_models import columns, place


def detected(tmp_path: Path, *, coco: bool) -> DetectMetadata:
    place(tmp_path, "toy", columns((24, 28, 16, 8, 1, 0.9), (44, 44, 8, 8, 0, 0.7)))
    detect = build(Detector(ModelRepository(tmp_path), OnnxBackend()))
    parameters = detect.parameters(detect.schema.encode({"modelName": "toy", "coco": coco}))
    metadata = detect(Pixels(np.zeros((64, 128, 3), np.uint8)), parameters=parameters).metadata
    assert isinstance(metadata, DetectMetadata)
    return metadata


def test_cocos_own_tools_read_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a data set, and its annotations are results: measured against each other, nothing is missed."""
    document = MessageToDict(detected(tmp_path, coco=True), always_print_fields_with_no_presence=True)["coco"]
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(document))
    truth = COCO(str(file))
    found = truth.loadRes(document["annotations"])
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    assert evaluation.stats[0] == pytest.approx(1.0)
    assert truth.loadCats([0, 1]) == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    assert truth.loadImgs([1]) == [{"id": 1, "width": 128, "height": 64, "file_name": ""}]
    first = truth.loadAnns([1])[0]
    assert first["bbox"] == [32, 16, 32, 16]
    assert (first["category_id"], first["area"], first["iscrowd"]) == (1, 512, 0)
    assert first["score"] == pytest.approx(0.9)


def test_it_is_there_only_when_it_is_asked_for(tmp_path: Path) -> None:
    assert not detected(tmp_path, coco=False).HasField("coco")
