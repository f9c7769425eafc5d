"""Builds the images: one for each service, and the gateway's.

    python tools/images.py [--stand-ins] [NAME…]
    python tools/images.py --changed-since COMMIT      # their names as JSON, and nothing is built
    python tools/images.py --publish REGISTRY [NAME…]  # of both architectures, pushed; prints names with digests

By docker where its daemon answers, else by buildah (`IMAGEFLOW_ENGINE=buildah`: in any case). With `--stand-ins`, for a
machine that reaches no container registry, the two images that ours start from are made first, out of Debian's packages
and of Envoy's wheel, under the names that the Dockerfiles have for them: good for tests, not for production. Prints
each image's size as a table. To publish takes docker's buildx: with provenance and an SBOM beside each image.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parent.parent
SERVICES: Final = ("orchestrator", "resize", "detect", "filter")
GATEWAY: Final = "gateway"
PREFIX: Final = "localhost/imageflow"
PLATFORMS: Final = ("linux/amd64", "linux/arm64")

DEBIAN_PACKAGES: Final = (
    *("buildah", "podman", "runc", "mmdebstrap", "uidmap", "catatonit", "iptables", "containers-storage"),
    *("netavark", "aardvark-dns", "podman-compose"),
)
_STAND_IN_PACKAGES: Final = "ca-certificates,python3.11,python3-pip,python3-venv"
_NOT_UNPACKED: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_ENGINE: Final = {**os.environ, "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "overlay")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*SERVICES, GATEWAY)))
    parser.add_argument("--stand-ins", action="store_true")
    parser.add_argument("--changed-since", metavar="COMMIT")
    parser.add_argument("--publish", metavar="REGISTRY")
    asked = parser.parse_args()
    if asked.changed_since:
        print(json.dumps(affected(_git("diff", "--name-only", f"{asked.changed_since}...HEAD").splitlines())))
        return
    names = asked.names or [*SERVICES, GATEWAY]
    if unknown := set(names) - {*SERVICES, GATEWAY}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if asked.publish:
        for name in names:
            print(publish(name, asked.publish))
        return
    if asked.stand_ins:
        os.environ["IMAGEFLOW_ENGINE"] = "buildah"  # which the stand-ins are made by
        install_engine()
        make_stand_ins()
    for name in names:
        build(name)
    print(table(names))


def build(name: str, *, tag: str = "", cached: bool = True) -> str:
    """Builds the image of a service or of the gateway; answers its name. Raises CalledProcessError."""
    image = f"{PREFIX}/{name}:{tag or version()}"
    print(f"{image}: building", file=sys.stderr)
    fresh = [] if cached else ["--no-cache"]
    _run([*_builder(), *fresh, *_build_arguments(name), "-t", image, "."])
    return image


def publish(name: str, registry: str) -> str:
    """Builds an image for each of `PLATFORMS` and pushes it; answers its name with its digest, to be signed and
    deployed. Raises CalledProcessError."""
    image = f"{registry.lower()}/{name}:{version()}"
    with tempfile.TemporaryDirectory() as folder:
        metadata = Path(folder, "metadata.json")
        _run(
            [
                *("env", f"SOURCE_DATE_EPOCH={_epoch()}", "docker", "buildx", "build"),
                *(f"--platform={','.join(PLATFORMS)}", "--provenance=mode=max", "--sbom=true"),
                *("--output=type=image,push=true,rewrite-timestamp=true", f"--metadata-file={metadata}"),
                *(f"--cache-from=type=gha,scope={name}", f"--cache-to=type=gha,mode=max,scope={name}"),
                *(*_build_arguments(name), "-t", image, "."),
            ]
        )
        digest = json.loads(metadata.read_text())["containerimage.digest"]
    return f"{image}@{digest}"


def _build_arguments(name: str) -> list[str]:
    given = {"VERSION": version(), "REVISION": _git("rev-parse", "HEAD")} | (
        {"SERVICE": name} if name != GATEWAY else {}
    )
    dockerfile = f"{GATEWAY}/Dockerfile" if name == GATEWAY else "images/Dockerfile"
    return [*(f"--build-arg={key}={value}" for key, value in given.items()), f"--file={dockerfile}"]


def affected(files: Sequence[str]) -> list[str]:
    """The images that files of the tree, as git names them, are built into."""
    everywhere = ("libs/", "images/Dockerfile", "images/build.txt", ".dockerignore", "tools/images.py")
    places = {name: (*everywhere, f"apps/{name}/", f"images/{name}.txt") for name in SERVICES}
    places["detect"] += ("models/",)
    places[GATEWAY] = (f"{GATEWAY}/", "libs/common/imageflow/v1/descriptors.binpb", ".dockerignore", "tools/images.py")
    return [name for name, inside in places.items() if any(file.startswith(inside) for file in files)]


def table(names: Sequence[str]) -> str:
    """Sizes in megabytes, unpacked."""
    base = {name: _size(base_of(name)) for name in names}
    rows = [(name, _size(f"{PREFIX}/{name}:{version()}"), base[name]) for name in names]
    lines = ["| Image | MB | over its base |", "| --- | ---: | ---: |"]
    return "\n".join(
        [*lines, *(f"| {name} | {size / 1e6:.0f} | {(size - start) / 1e6:.0f} |" for name, size, start in rows)]
    )


def version() -> str:
    """The product's."""
    return str(tomllib.loads((TOP / "libs/common/pyproject.toml").read_text())["project"]["version"])


def install_engine() -> None:
    """Debian's buildah, podman and what they need, where they are missing and may be installed."""
    if shutil.which("buildah") and shutil.which("podman") and shutil.which("mmdebstrap"):
        return
    if not shutil.which("apt-get") or os.geteuid():
        raise SystemExit("needs buildah, podman and mmdebstrap")
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *DEBIAN_PACKAGES], stdout=subprocess.DEVNULL)


def make_stand_ins() -> None:
    """Makes the images that ours start from, unless they are there."""
    if not _there(base_of(SERVICES[0])):
        _make_python(base_of(SERVICES[0]))
    if not _there(base_of(GATEWAY)):
        _make_envoy(base_of(GATEWAY))


def _make_python(image: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/base.tar"
        options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _NOT_UNPACKED]
        tidy = 'rm -rf "$1"/usr/lib/python3.11/EXTERNALLY-MANAGED "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*'
        options += [f"--include={_STAND_IN_PACKAGES}", f"--customize-hook={tidy}"]
        sources = [str(path) for path in Path("/etc/apt/sources.list.d").glob("debian.sources")]
        _run(["mmdebstrap", "--quiet", "--variant=minbase", *options, "bookworm", archive, *sources])
        changes = [f"--change=ENV {each}" for each in ("PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8")]
        _run(["podman", "import", "--quiet", *changes, archive, image])


def _make_envoy(image: str) -> None:
    from imageflow_cli.gateway import envoy_binary

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(envoy_binary(), f"{folder}/envoy")
        Path(folder, "Dockerfile").write_text(f"FROM {base_of(SERVICES[0])}\nCOPY envoy /usr/local/bin/envoy\n")
        build_folder(folder, image)


def build_folder(folder: str, image: str) -> None:
    """An image from a folder with a Dockerfile of its own."""
    _run([*_builder(), "-t", image, folder])


def base_of(name: str) -> str:
    """What the last stage of an image starts from, as its Dockerfile says."""
    text = (TOP / (f"{GATEWAY}/Dockerfile" if name == GATEWAY else "images/Dockerfile")).read_text()
    found = re.search(r"^ARG \w+_IMAGE=(\S+)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def _builder() -> list[str]:
    """A command that builds the folder given last. All times in an image are those of the commit."""
    if _docker():
        return ["env", f"SOURCE_DATE_EPOCH={_epoch()}", "docker", "build"]
    trusted = os.environ.get("SSL_CERT_FILE")
    certificates = [f"--volume={trusted}:/etc/ssl/certs/ca-certificates.crt:ro"] if trusted else []
    return [
        *("buildah", "build", "--quiet", "--layers", "--isolation=chroot", "--network=host", "--pull-never"),
        *("--format=docker", f"--timestamp={_epoch()}", *certificates),
    ]


def _epoch() -> str:
    return _git("log", "-1", "--format=%ct")


def _docker() -> bool:
    program = None if os.environ.get("IMAGEFLOW_ENGINE") == "buildah" else shutil.which("docker")
    return program is not None and not subprocess.run([program, "version"], capture_output=True, check=False).returncode  # noqa: S603


def _there(image: str) -> bool:
    return not subprocess.run(["podman", "image", "exists", image], env=_ENGINE, check=False).returncode  # noqa: S603, S607


def _size(image: str) -> int:
    engine = "docker" if _docker() else "podman"
    said = subprocess.run([engine, "image", "inspect", image], env=_ENGINE, capture_output=True, check=True)  # noqa: S603
    return int(json.loads(said.stdout)[0]["Size"])


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=TOP, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607


def _run(command: Sequence[str], *, stdout: int | None = None) -> None:
    subprocess.run(command, cwd=TOP, env=_ENGINE, check=True, stdout=stdout if stdout is not None else sys.stderr)  # noqa: S603


if __name__ == "__main__":
    main()
