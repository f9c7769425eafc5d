from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imageflow_common.errors import FailedPrecondition
from imageflow_detect.manifest import Manifest, ModelInvalid
from imageflow_detect.models import ModelNotFound, ModelRepository
from imageflow_detect.toy_models import columns, manifest_of, place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    return models


def test_a_manifest_reads_back_what_it_writes() -> None:
    manifest = manifest_of(input={"colour_order": "bgr", "normalisation": {"scale": "1/255", "mean": [0.5, 0.5, 0.5]}})
    assert manifest.input.normalisation.scale == 1 / 255
    assert Manifest.parse(manifest.to_yaml(), name="toy") == manifest


def test_a_manifest_shows_all_its_faults_at_once() -> None:
    text = "\n".join(
        [
            "name: toy",
            "labels: []",
            "input: {size: {width: 0, height: 64}, layout: nhwc}",
            "output: {layout: yolo_v3}",
            "surprise: 1",
        ]
    )
    with pytest.raises(ModelInvalid) as caught:
        Manifest.parse(text, name="toy")
    fields = {fault.field for fault in caught.value.violations}
    assert {
        "labels",
        "input.size.width",
        "input.layout",
        "output",
        "surprise",
        "licence",
        "source",
    } <= fields
    assert "'yolo_v8'" in caught.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not YAML"),
        ("[]", "dictionary"),
        (manifest_of("other").to_yaml(), "its folder is 'toy'"),
        (manifest_of().to_yaml().replace("- dog", "- cat"), "each label once"),
        (manifest_of().to_yaml().replace("std:\n    - 1.0", "std:\n    - 0.0"), "greater than 0"),
    ],
)
def test_a_manifest_with_a_fault_says_which(text: str, says: str) -> None:
    with pytest.raises(ModelInvalid, match=says):
        Manifest.parse(text, name="toy")


def test_a_repository_without_a_model_says_so_until_it_has_one(folder: Path) -> None:
    for empty in (folder, folder / "nowhere"):
        assert f"there is no model in {empty}; add one with" in ModelRepository(empty).unready()
    place(folder, "toy", columns())
    assert ModelRepository(folder).unready() == ""


def test_the_newest_version_is_the_largest_number(folder: Path) -> None:
    for version in (2, 10, 9):
        place(folder, "toy", columns(), version=version)
    (folder / "toy" / "11").mkdir()
    (folder / "toy" / "training").mkdir()
    repository = ModelRepository(folder)
    assert repository.names() == ("toy",)
    assert repository.versions("toy") == (2, 9, 10)
    assert repository.resolve("toy").version == 10
    assert repository.resolve("toy", "9").file == (folder / "toy" / "9" / "model.onnx").resolve()


def test_an_unknown_model_is_answered_with_those_there_are_and_how_to_add_one(folder: Path) -> None:
    place(folder, "toy", columns())
    with pytest.raises(ModelNotFound) as caught:
        ModelRepository(folder).resolve("yolo11")
    assert isinstance(caught.value, FailedPrecondition)
    assert caught.value.reason == "MODEL_NOT_FOUND"
    assert "there are: toy" in caught.value.message
    assert "imageflow models add FILE.onnx --name NAME --labels a,b,c" in caught.value.message


@pytest.mark.parametrize("version", ["2", "01", "0", "-1", "1/../1", "²", "9" * 30])
def test_an_unknown_version_is_answered_with_those_there_are(folder: Path, version: str) -> None:
    place(folder, "toy", columns())
    with pytest.raises(ModelNotFound, match="there are: 1"):
        ModelRepository(folder).resolve("toy", version)


def test_a_repository_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "none")
    assert repository.names() == ()
    with pytest.raises(ModelNotFound, match="there are none"):
        repository.resolve("toy")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "toy/../../secret", "/etc", "toy\0", "toy\n", "a" * 129, ".hidden"]
)
def test_a_name_never_leads_out_of_the_repository(folder: Path, name: str) -> None:
    place(folder, "toy", columns())
    place(folder.parent, "secret", columns())
    with pytest.raises(ModelNotFound):
        ModelRepository(folder).resolve(name)


@pytest.mark.parametrize("linked", ["toy", "toy/1", "toy/1/model.onnx", "toy/manifest.yaml"])
def test_a_symbolic_link_never_leads_out_of_the_repository(folder: Path, linked: str) -> None:
    place(folder, "toy", columns())
    outside = folder.parent / "outside"
    (folder / linked).rename(outside)
    os.symlink(outside, folder / linked)
    with pytest.raises(FailedPrecondition):
        ModelRepository(folder).resolve("toy")


def test_a_changed_manifest_is_seen(folder: Path) -> None:
    place(folder, "toy", columns())
    repository = ModelRepository(folder)
    assert repository.resolve("toy").labels == ("cat", "dog")
    assert repository.resolve("toy").manifest is repository.resolve("toy").manifest
    (folder / "toy" / "manifest.yaml").write_text(manifest_of(labels=("cow", "hen")).to_yaml() + "\n")
    assert repository.resolve("toy").labels == ("cow", "hen")


def age(folder: Path) -> None:
    """As if nothing had happened here for an hour."""
    for path in [folder, *folder.rglob("*")]:
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns - 3600 * 10**9, status.st_mtime_ns - 3600 * 10**9))


def test_nothing_is_read_again_that_has_not_changed(folder: Path) -> None:
    place(folder, "toy", columns())
    age(folder)
    repository = ModelRepository(folder)
    assert repository.resolve("toy") is repository.resolve("toy")


def add_version(folder: Path) -> None:
    place(folder, "toy", columns(), version=2)


def fill_version(folder: Path) -> None:
    (folder / "toy" / "3" / "model.onnx").write_bytes((folder / "toy" / "1" / "model.onnx").read_bytes())


def remove_version(folder: Path) -> None:
    (folder / "toy" / "1" / "model.onnx").unlink()


def change_manifest(folder: Path) -> None:
    (folder / "toy" / "manifest.yaml").write_text(manifest_of(labels=("cow", "hen")).to_yaml())


def change_nothing_but_the_manifests_inode(folder: Path) -> None:
    manifest, other = folder / "toy" / "manifest.yaml", folder / "toy" / ".new"
    status = manifest.stat()
    other.write_text(manifest.read_text().replace("dog", "hen"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(manifest)


def lead_outside(folder: Path) -> None:
    (folder / "toy" / "1").rename(folder.parent / "outside")
    (folder / "toy" / "1").symlink_to(folder.parent / "outside")


@pytest.mark.parametrize(
    ("change", "afterwards"),
    [
        (add_version, (2, ("cat", "dog"))),
        (fill_version, (3, ("cat", "dog"))),
        (remove_version, None),
        (change_manifest, (1, ("cow", "hen"))),
        (change_nothing_but_the_manifests_inode, (1, ("cat", "hen"))),
        (lead_outside, None),
    ],
)
def test_what_changes_is_seen_with_the_next_call(
    folder: Path, change: Callable[[Path], None], afterwards: tuple[int, tuple[str, ...]] | None
) -> None:
    place(folder, "toy", columns())
    (folder / "toy" / "3").mkdir()
    age(folder)
    repository = ModelRepository(folder)
    assert repository.resolve("toy").version == 1
    change(folder)
    if afterwards is None:
        with pytest.raises(ModelNotFound):
            repository.resolve("toy")
    else:
        model = repository.resolve("toy")
        assert (model.version, model.labels) == afterwards
