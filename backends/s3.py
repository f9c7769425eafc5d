"""What the S3 servers have in common: how one is asked whether it is ready, and what its users are told."""

from __future__ import annotations

import os
import ssl
import urllib.error
import urllib.request
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from backends.server import Server

ACCESS_KEY = os.environ.get("IMAGEFLOW_BACKENDS_S3_ACCESS_KEY", "imageflow")
SECRET_KEY = os.environ.get("IMAGEFLOW_BACKENDS_S3_SECRET_KEY", "imageflow-on-loopback")  # nobody else can reach ours
BUCKET = "imageflow"


class S3Server(Server):
    """An S3 server on `ports["main"]`, for the one user `ACCESS_KEY`."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['main']}"

    @property
    def ca_file(self) -> Path | None:
        """The authority to trust, where it serves TLS."""
        return None

    @property
    @abstractmethod
    def ready_path(self) -> str:
        """What answers 200 once requests are served."""

    def ready(self) -> bool:
        trust = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        try:
            with urllib.request.urlopen(self.endpoint + self.ready_path, timeout=1, context=trust) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def settings(self) -> Mapping[str, str]:
        return {
            "IMAGEFLOW_STORE_URL": f"s3://{BUCKET}",
            "IMAGEFLOW_S3_ENDPOINT": self.endpoint,
            "IMAGEFLOW_S3_CREATE_BUCKET": "true",
            "IMAGEFLOW_S3_ACCESS_KEY": ACCESS_KEY,
            "IMAGEFLOW_S3_SECRET_KEY": SECRET_KEY,
        }
