"""`imageflow images`: what is in the server's store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from imageflow_cli.options import json_option, url_option
from imageflow_cli.output import Output, byte_size

if TYPE_CHECKING:
    from imageflow.v1.stored_image_pb2 import StoredImage

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def images() -> None:
    """Stored images."""


@images.command()
@click.argument("file", type=_FILE)
@click.argument("key", default="")
@click.option("--type", "media_type", default="", help="The media type; without it, by the file's ending.")
@url_option
@json_option
def put(file: Path, key: str, media_type: str, url: str, out: Output) -> None:
    """Store FILE under KEY, or under a key that the server chooses."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.client import Client
    from imageflow_cli.definitions import media_type_of
    from imageflow_cli.exits import UsageFault
    from imageflow_cli.output import message_json

    try:
        source = file.open("rb")
    except OSError as exc:
        raise UsageFault(f"cannot read {file}: {exc.strerror}") from exc

    async def question(client: Client) -> StoredImage:
        kind = media_type or media_type_of(file)
        return await client.upload_image(_parts(source), media_type=kind, key=key)

    with source, out.working(f"storing {file.name}"):
        stored = ask(url, question)
    out.data(message_json(stored))
    out.line(f"{stored.key}  {byte_size(stored.size_bytes)}  {stored.media_type}  sha256 {stored.sha256}")


@images.command()
@click.argument("key")
@click.option("-o", "--output", type=_FILE, required=True, help="Where to write the bytes.")
@url_option
@json_option
def get(key: str, output: Path, url: str, out: Output) -> None:
    """Fetch what is stored under KEY, checked against its checksum."""
    from imageflow_cli.blocking import ask
    from imageflow_cli.exits import UsageFault

    temporary = output.with_name(f".{output.name}.part")
    try:
        with temporary.open("wb") as file, out.working(f"fetching {key}"):
            fetched = ask(url, lambda client: client.download_image(key, file.write))
        temporary.replace(output)
    except OSError as exc:
        raise UsageFault(f"cannot write {output}: {exc.strerror}") from exc
    finally:
        temporary.unlink(missing_ok=True)
    out.data({"key": key, "output": str(output), "mediaType": fetched.media_type, "sizeBytes": fetched.size_bytes})
    out.line(f"wrote {output}: {fetched.media_type}, {byte_size(fetched.size_bytes)}")


@images.command()
@click.argument("prefix", default="")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="The most to list.")
@url_option
@json_option
def ls(prefix: str, limit: int, url: str, out: Output) -> None:
    """List what is stored under keys that begin with PREFIX."""
    from imageflow_cli.blocking import ask_all
    from imageflow_cli.output import message_json

    found = ask_all(url, lambda client: client.list_images(prefix=prefix), limit=limit)
    out.data([message_json(each) for each in found])
    rows = [[i.key, byte_size(i.size_bytes), i.media_type, i.update_time.ToJsonString()] for i in found]
    out.table(["key", "size", "type", "written"], rows, right=["size"])


@images.command()
@click.argument("key")
@url_option
@json_option
def rm(key: str, url: str, out: Output) -> None:
    """Delete what is stored under KEY."""
    from imageflow_cli.blocking import ask

    ask(url, lambda client: client.delete_image(key))
    out.data({"deleted": key})
    out.line(f"deleted {key}")


@images.command()
@click.argument("key")
@click.option("--upload", is_flag=True, help="A URL to store an image with PUT, instead of one to fetch it with GET.")
@click.option("--lifetime", type=click.IntRange(1), metavar="SECONDS", help="How long it is good for; 900 without it.")
@click.option("--type", "media_type", default="", help="The media type of what is uploaded.")
@click.option("--sha256", default="", help="The only bytes that may be uploaded, by their SHA-256 in hexadecimal.")
@url_option
@json_option
def sign(key: str, upload: bool, lifetime: int | None, media_type: str, sha256: str, url: str, out: Output) -> None:
    """Make a URL at which the store itself gives or takes what is under KEY. It is a secret, until it ends."""
    from datetime import timedelta

    from imageflow.v1.stored_image_pb2 import SignImageRequest
    from imageflow_cli.blocking import ask
    from imageflow_cli.exits import UsageFault
    from imageflow_cli.output import message_json

    if not upload and (media_type or sha256):
        raise UsageFault("--type and --sha256 are of an upload: give --upload too")
    request = SignImageRequest(key=key, media_type=media_type, sha256=sha256)
    request.access = SignImageRequest.UPLOAD if upload else SignImageRequest.DOWNLOAD
    if lifetime is not None:
        request.lifetime.FromTimedelta(timedelta(seconds=lifetime))
    signed = ask(url, lambda client: client.sign_image(request))
    out.data(message_json(signed))
    out.line(signed.url)
    for name, value in sorted(signed.headers.items()):
        out.note(f"send the header {name}: {value}")


async def _parts(file: BinaryIO) -> AsyncIterator[bytes]:
    while data := file.read(256 * 1024):
        yield data
