"""The client, against a running system; and against servers that lie."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import ParseDict

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.pipeline_pb2 import Pipeline
from imageflow.v1.stored_image_pb2 import StoredImage
from imageflow_cli.client import Client
from imageflow_cli.demo import photograph
from imageflow_cli.exits import ServerUnreachable, UsageFault
from imageflow_cli.main import cli
from imageflow_cli.ports import free_ports
from imageflow_common.descriptors import own_descriptors
from imageflow_common.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound
from imageflow_common.rpc import service_handler, start_server
from imageflow_common.settings import ServerSettings

from .conftest import EXAMPLES, Up


def example(name: str) -> dict[str, Any]:
    definition: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text())
    return definition


@pytest.fixture
async def client(running: Up) -> AsyncIterator[Client]:
    async with Client(running.url) as client:
        yield client


async def test_an_image_comes_back_as_it_went(client: Client) -> None:
    data = photograph() * 10
    stored = await client.upload_image(data, media_type="image/png", key="uploads/there and back.png")
    assert (stored.key, stored.size_bytes) == ("uploads/there and back.png", len(data))
    parts: list[bytes] = []
    fetched = await client.download_image(stored.key, parts.append)
    assert b"".join(parts) == data
    assert (fetched.sha256, fetched.media_type) == (stored.sha256, "image/png")
    assert stored.key in [image.key async for image in client.list_images(prefix="uploads/there")]
    await client.delete_image(stored.key)
    with pytest.raises(NotFound):
        await client.download_image(stored.key, parts.append)


@pytest.mark.parametrize("as_message", [True, False])
async def test_a_pipeline_runs_as_a_message_and_as_json(client: Client, as_message: bool) -> None:
    stored = await client.upload_image(photograph(), media_type="image/png")
    definition = example("inspect-coins")
    pipeline = ParseDict(definition, Pipeline()) if as_message else definition
    execution = await client.execute(pipeline, input_path=stored.key, overrides={"resize.width": 400})
    assert execution.status == Execution.COMPLETED
    assert execution.results["detect"].message == "24 detections"
    assert (await client.get_execution(execution.execution_id)).execution_id == execution.execution_id
    assert execution.execution_id in [each.execution_id async for each in client.list_executions()]


async def test_every_fault_of_a_definition_comes_back(client: Client) -> None:
    definition = example("resize")
    definition["steps"][0]["dependancies"] = []
    definition["steps"][0]["parameters"]["height"] = 0
    with pytest.raises(InvalidArgument) as caught:
        await client.validate(definition)
    assert caught.value.reason == "INVALID_PIPELINE"
    assert len(caught.value.violations) == 2


async def test_definitions_are_stored_once_listed_and_deleted(client: Client) -> None:
    definition = {**example("resize"), "pipelineId": "stored"}
    assert (await client.create_pipeline(definition)).pipeline_id == "stored"
    with pytest.raises(AlreadyExists):
        await client.create_pipeline({**definition, "pipelineName": "another"})
    assert (await client.get_pipeline("stored")).steps[0].step_id == "resize"
    assert "stored" in [each.pipeline_id async for each in client.list_pipelines()]
    result = await client.process_image(
        "stored", photograph(), media_type="image/png", overrides={"resize.width": "50"}
    )
    assert result.media_type == "image/png"
    assert "resize;dur=" in result.server_timing
    await client.delete_pipeline("stored")
    with pytest.raises(NotFound):
        await client.get_pipeline("stored")


async def test_one_component_runs_alone(client: Client) -> None:
    names = [component.name async for component in client.list_components()]
    assert names == ["detect", "filter", "resize"]
    assert (await client.get_component("ai_detection")).name == "detect"
    assert await client.readiness() == names
    result = await client.process_with_component(
        "resize", photograph(), media_type="image/png", parameters={"width": "40"}, output_format="jpeg"
    )
    assert result.data[:2] == b"\xff\xd8"


async def test_nobody_there_is_said_to_be_so() -> None:
    async with Client(f"http://127.0.0.1:{free_ports(1)[0]}") as client:
        with pytest.raises(ServerUnreachable):
            await client.readiness()


@pytest.mark.parametrize("url", ["ftp://a", "http://", "http://a/b"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageFault):
        Client(url)


async def test_bytes_that_are_not_what_is_stored_are_data_loss() -> None:
    async def download(request: object, context: Any) -> AsyncIterator[HttpBody]:
        await context.send_initial_metadata((("imageflow-sha256", "00"),))
        yield HttpBody(data=b"half of i")

    async def upload(requests: AsyncIterator[object], context: object) -> StoredImage:
        async for _ in requests:
            pass
        return StoredImage(key="k", sha256="00")

    async def nothing(request: object, context: object) -> None: ...

    methods: dict[str, Callable[..., Any]] = {
        "UploadImage": upload,
        "DownloadImage": download,
        "HeadImage": nothing,
        "ListImages": nothing,
        "DeleteImage": nothing,
        "SignImage": nothing,
    }
    own = own_descriptors()
    handler = service_handler(own.service("imageflow.v1.ImageService"), methods)
    server = await start_server(ServerSettings(port=0), [handler], service_names=[], descriptors=own)
    try:
        async with Client(f"127.0.0.1:{server.port}") as client:
            with pytest.raises(DataLoss):
                await client.download_image("k", lambda _: None)
            with pytest.raises(DataLoss):
                await client.upload_image(b"whole", media_type="image/png")
    finally:
        await server.stop()


def test_the_commands_speak_to_a_server(running: Up, tmp_path: Path) -> None:
    (tmp_path / "coins.png").write_bytes(photograph())

    def call(*arguments: str) -> Any:
        result = CliRunner().invoke(cli, [*arguments, "--url", running.url, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert call("images", "put", str(tmp_path / "coins.png"), "uploads/coins.png")["key"] == "uploads/coins.png"
    assert call("images", "get", "uploads/coins.png", "-o", str(tmp_path / "back.png"))["mediaType"] == "image/png"
    assert (tmp_path / "back.png").read_bytes() == (tmp_path / "coins.png").read_bytes()
    assert call("execute", str(EXAMPLES / "inspect-coins.json"))["finalOutputPath"] == "outputs/inspected-coins.png"
    assert call("pipelines", "create", str(EXAMPLES / "annotate-coins.json"))["pipelineId"] == "annotate-coins"
    processed = call("process", "annotate-coins", str(tmp_path / "coins.png"), "-o", str(tmp_path / "out.png"))
    assert len(processed["detections"]) == 24
    assert call("components", "resize")["parametersSchema"]["properties"]["width"]["default"] == 800
    assert call("pipelines", "ls")[0]["pipelineId"] == "annotate-coins"
    assert call("status")["ready"] is True
    assert len(call("validate", str(EXAMPLES / "parallel.json"))["steps"]) == 3
