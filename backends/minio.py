"""MinIO: an S3 server to test against and to try the system out with; built from source, never part of the product."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.cache import cache_directory, finish, finished, installing
from backends.certificates import make_certificates
from backends.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from backends.server import CannotStart

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
VARIABLES = {
    "MINIO_ROOT_USER": ACCESS_KEY,
    "MINIO_ROOT_PASSWORD": SECRET_KEY,
    "MINIO_BROWSER": "off",
    "MINIO_UPDATE": "off",
}
_BUILD_SECONDS = 1800


class MinIO(S3Server):
    name = "minio"
    ready_path = "/minio/health/ready"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def install(self) -> None:
        """`minio` of the PATH, else built once, some minutes, with the Go compiler."""
        if _binary().parent != cache_directory() / self.name:
            return
        with installing(self.name) as folder:
            if not finished(folder, VERSION):
                _build(folder)
                finish(folder, VERSION)

    def command(self) -> Sequence[str]:
        address = f"127.0.0.1:{self.ports['main']}"
        return [str(_binary()), "server", str(self.data), "--address", address, "--quiet"]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **VARIABLES}


class SecureMinIO(MinIO):
    """One that serves TLS, and finds the bucket in the host name too: `BUCKET.s3.localhost`."""

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.ports['main']}"

    @property
    def ca_file(self) -> Path:
        return self.directory / "tls" / "ca.pem"

    def prepare(self) -> None:
        if self.ca_file.exists():
            return
        made = self.ca_file.parent
        make_certificates(made)
        (made / "server.key").rename(made / "private.key")
        (made / "server.crt").rename(made / "public.crt")

    def command(self) -> Sequence[str]:
        return [*super().command(), "--certs-dir", str(self.ca_file.parent)]

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "MINIO_DOMAIN": "s3.localhost"}


def _binary() -> Path:
    found = shutil.which("minio")
    return Path(found) if found else cache_directory() / MinIO.name / "minio"


def _build(folder: Path) -> None:
    if shutil.which("go") is None:
        raise CannotStart("minio: there is neither a `minio` nor a `go` to build it with on the PATH")
    environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    source = f"github.com/minio/minio@{VERSION}"
    try:
        subprocess.run(
            ["nice", "go", "install", "-trimpath", "-ldflags=-s -w", source],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
    except subprocess.CalledProcessError as exc:
        raise CannotStart(f"minio could not be built:\n{exc.stderr[-2000:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise CannotStart(f"minio was not built within {_BUILD_SECONDS} s") from exc
