from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from imageflow_common.errors import FailedPrecondition, ImageFlowError
from imageflow_detect import backend as backend_module
from imageflow_detect.adding import remove_model
from imageflow_detect.backend import OnnxBackend, OnnxSession
from imageflow_detect.manifest import Manifest, ModelInvalid
from imageflow_detect.models import ModelRepository
from imageflow_detect.toy_models import SIDE, columns, fixed_output_model, manifest_of, place

BLANK = np.zeros((1, 3, SIDE, SIDE), np.float32)


def test_inference_answers_what_the_model_answers(tmp_path: Path) -> None:
    output = columns((10, 10, 8, 8, 0, 0.9))
    place(tmp_path, "toy", output)
    backend = OnnxBackend()
    (answered,) = backend.infer(ModelRepository(tmp_path).resolve("toy"), BLANK)
    np.testing.assert_array_equal(answered, output)
    backend.close()
    assert backend.loaded() == ()


def test_loading_a_model_tells_nobody_and_leaves_no_file(tmp_path: Path) -> None:
    """In a process of its own, since only its first import of ONNX Runtime decides."""
    model = Path(__file__).resolve().parents[3] / "models" / "coins" / "1" / "model.onnx"
    source = (
        f"from pathlib import Path; from imageflow_detect.backend import OnnxSession; OnnxSession(Path({str(model)!r}))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    subprocess.run(
        [sys.executable, "-c", source], env={**environment, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}, check=True
    )
    assert list(tmp_path.rglob("*")) == []


def test_sixteen_first_calls_open_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, "toy", columns())
    model = ModelRepository(tmp_path).resolve("toy")
    opened: list[Path] = []

    class Counted(OnnxSession):
        def __init__(self, file: Path) -> None:
            opened.append(file)
            super().__init__(file)

    monkeypatch.setattr(backend_module, "OnnxSession", Counted)
    backend, together = OnnxBackend(), threading.Barrier(16)

    def call(_: int) -> tuple[int, ...]:
        together.wait()
        return backend.infer(model, BLANK)[0].shape

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(call, range(16))) == {(1, 6, 100)}
    assert len(opened) == 1


def test_the_longest_unused_session_goes_first_and_is_freed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        place(tmp_path, name, columns())
    repository, backend = ModelRepository(tmp_path), OnnxBackend(max_sessions=2)
    backend.infer(repository.resolve("a"), BLANK)
    first = weakref.ref(backend._session(repository.resolve("a")))
    for name in ("b", "a", "c"):
        backend.infer(repository.resolve(name), BLANK)
    assert backend.loaded() == (("a", 1), ("c", 1))
    backend.infer(repository.resolve("b"), BLANK)
    gc.collect()
    assert first() is None


def test_a_model_that_is_removed_is_let_go_of(tmp_path: Path) -> None:
    for name in ("a", "b"):
        place(tmp_path, name, columns())
    repository, backend = ModelRepository(tmp_path), OnnxBackend()
    backend.infer(repository.resolve("a"), BLANK)
    remove_model(repository, "a")
    backend.prepare(repository.resolve("b"))
    assert backend.loaded() == (("b", 1),)


def test_a_thousand_first_calls_at_once_open_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(tmp_path, "toy", columns())
    model, opened = ModelRepository(tmp_path).resolve("toy"), []
    monkeypatch.setattr(backend_module, "OnnxSession", lambda file: opened.append(file) or OnnxSession(file))
    backend = OnnxBackend()
    with ThreadPoolExecutor(200) as pool:
        assert {array.shape for (array,) in pool.map(lambda _: backend.infer(model, BLANK), range(1000))} == {
            (1, 6, 100)
        }
    assert len(opened) == 1


def test_versions_have_sessions_of_their_own(tmp_path: Path) -> None:
    place(tmp_path, "toy", columns((10, 10, 8, 8, 0, 0.9)), version=1)
    place(tmp_path, "toy", columns((10, 10, 8, 8, 1, 0.9)), version=2)
    repository, backend = ModelRepository(tmp_path), OnnxBackend()
    old, new = (backend.infer(repository.resolve("toy", version), BLANK)[0] for version in ("1", "2"))
    assert old[0, 4, 0] == new[0, 5, 0] == np.float32(0.9)


def test_a_file_that_is_no_model_is_a_failed_precondition_and_is_tried_again(tmp_path: Path) -> None:
    place(tmp_path, "toy", columns())
    file = tmp_path / "toy" / "1" / "model.onnx"
    good = file.read_bytes()
    file.write_bytes(b"not a model")
    model, backend = ModelRepository(tmp_path).resolve("toy"), OnnxBackend()
    with pytest.raises(FailedPrecondition) as caught:
        backend.infer(model, BLANK)
    assert caught.value.reason == "MODEL_INVALID"
    assert str(tmp_path) not in caught.value.message
    assert backend.loaded() == ()
    file.write_bytes(good)
    assert backend.infer(model, BLANK)[0].shape == (1, 6, 100)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (manifest_of(labels=["cat"]), r"output 'output0' is \[1, 6, 100\]; the manifest means \[1, 5, \?\]"),
        (manifest_of(input={"size": {"width": 32, "height": SIDE}}), "input 'images' is"),
        (manifest_of(input={"name": "x"}), "no input 'x'; it has: images"),
        (manifest_of(output={"layout": "yolo_v8", "name": "y"}), "no output 'y'; it has: output0"),
    ],
)
def test_a_model_unlike_its_manifest_is_refused(tmp_path: Path, manifest: Manifest, says: str) -> None:
    place(tmp_path, "toy", columns(), manifest=manifest)
    with pytest.raises(ModelInvalid, match=says):
        OnnxBackend().infer(ModelRepository(tmp_path).resolve("toy"), BLANK)


def test_a_session_that_fails_is_an_internal_error(tmp_path: Path) -> None:
    file = fixed_output_model(columns(), tmp_path / "toy.onnx")
    with pytest.raises(ImageFlowError) as caught:
        OnnxSession(file).run(np.zeros((1, 3, 5, 5), np.float32), input_name="images", output_names=["output0"])
    assert caught.value.code == "INTERNAL"
    assert caught.value.reason == "INFERENCE_FAILED"
