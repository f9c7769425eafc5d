"""Certificates of an authority made for one directory alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

from backends.server import CannotStart

NAMES = ("IP:127.0.0.1", "DNS:localhost", "DNS:s3.localhost", "DNS:*.s3.localhost")
_KEY, _DAYS = ("-newkey", "rsa:2048", "-nodes"), ("-days", "3650")
_AUTHORITY = ("-CA", "ca.new", "-CAkey", "ca.key", "-CAcreateserial")


def make_certificates(folder: Path) -> None:
    """The authority's `ca.pem`; for `NAMES` `server.key`, `server.crt`, and both with the chain in `server.pem`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names").write_text(f"subjectAltName={','.join(NAMES)}\n")
    subject = "/CN=one test server's authority"
    _openssl(folder, "req", "-x509", *_KEY, *_DAYS, "-subj", subject, "-keyout", "ca.key", "-out", "ca.new")
    _openssl(folder, "req", *_KEY, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    _openssl(
        folder, "x509", "-req", "-in", "server.csr", *_AUTHORITY, *_DAYS, "-extfile", "names", "-out", "server.crt"
    )
    parts = [(folder / name).read_text() for name in ("server.key", "server.crt", "ca.new")]
    (folder / "server.pem").write_text("".join(parts))
    (folder / "ca.new").rename(folder / "ca.pem")


def _openssl(folder: Path, *arguments: str) -> None:
    try:
        made = subprocess.run(
            ["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError as exc:
        raise CannotStart("needs openssl") from exc
    if made.returncode:
        raise CannotStart(f"openssl made no certificate: {made.stderr[-500:]}")
