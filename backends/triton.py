"""NVIDIA Triton Inference Server on this machine, without a GPU: the server that the wheel `nvidia-pytriton` carries.

The wheel has no ONNX Runtime backend, only the Python one. So `triton_model.py` beside this file becomes a
Python-based backend under the name `onnxruntime`
(https://github.com/triton-inference-server/backend, "Python-based backends"): Triton serves a model repository as it
stands, `platform: "onnxruntime_onnx"`, exactly as a Triton with the real ONNX Runtime backend does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from backends.cache import cache_directory, finish, finished, installing
from backends.server import CannotStart, Server

# With numpy 2 this Triton's Python backend exchanges wrong values, silently; numpy 1 has no wheel for Python 3.13.
PACKAGES = ("nvidia-pytriton==0.7.0", "onnxruntime==1.32.0", "numpy==1.26.4", "flatbuffers==25.12.19")
PYTHONS = ((3, 12), (3, 11))
MODELS = Path(__file__).resolve().parents[1] / "models"
SHARED_MEMORY = Path("/dev/shm")

_BACKEND = Path(__file__).with_name("triton_model.py")
_ABOUT = """import json, sysconfig
libraries = sysconfig.get_config_var("LIBDIR")
packages, version = sysconfig.get_path("purelib"), sysconfig.get_python_version()
print(json.dumps({"libraries": libraries, "packages": packages, "version": version}))
"""


class Triton(Server):
    """Triton with explicit model control; every model of `models` is loaded at each start."""

    name = "triton"
    ports_needed: ClassVar[tuple[str, ...]] = ("grpc", "http", "metrics")

    def __init__(self, directory: Path, models: Path | None = None) -> None:
        """`models`: a model repository; `IMAGEFLOW_MODELS_DIRECTORY`, or the tree's own, unless given."""
        super().__init__(directory)
        self.models = models or Path(os.environ.get("IMAGEFLOW_MODELS_DIRECTORY") or MODELS).absolute()

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.ports['grpc']}"

    def install(self) -> None:
        """See Server. A virtual environment of about 300 MB."""
        mark = " ".join((*PACKAGES, hashlib.sha256(_BACKEND.read_bytes()).hexdigest()))
        with installing(self.name) as folder:
            if not finished(folder, mark):
                shutil.rmtree(folder / "venv", ignore_errors=True)
                _make_environment(folder / "venv")
                _add_backend(_site_packages() / "pytriton" / "tritonserver")
                finish(folder, mark)

    def command(self) -> Sequence[str]:
        """See Server."""
        server = _site_packages() / "pytriton" / "tritonserver"
        return [
            str(server / "bin" / "tritonserver"),
            f"--model-repository={self.models}",
            f"--backend-directory={server / 'backends'}",
            *(f"--{kind}-address=127.0.0.1" for kind in self.ports_needed),
            *(f"--{kind}-port={self.ports[kind]}" for kind in self.ports_needed),
            "--model-control-mode=explicit",
            "--load-model=*",
            "--exit-on-error=false",
            "--strict-readiness=false",
            "--exit-timeout-secs=5",
            f"--backend-config=python,shm-region-prefix-name={self._memory_prefix}",
        ]

    def environment(self) -> Mapping[str, str]:
        """See Server. The stub that runs `triton_model.py` finds its modules by the `python3` on the path."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        path = os.pathsep.join((str(_python().parent), os.environ.get("PATH", os.defpath)))
        return environment | {"PATH": path, "LD_LIBRARY_PATH": _about(_python())["libraries"]}

    def prepare(self) -> None:
        """See Server."""
        self._sweep()

    def ready(self) -> bool:
        """See Server."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}/v2/health/ready", timeout=2):
                return True
        except OSError:
            return False

    def settings(self) -> Mapping[str, str]:
        """See Server."""
        return {"IMAGEFLOW_TRITON_URL": self.url}

    def stop(self) -> None:
        """See Server."""
        super().stop()
        self._sweep()

    def kill(self) -> None:
        """See Server."""
        super().kill()
        self._sweep()

    @property
    def _memory_prefix(self) -> str:
        return f"triton-stub-{hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]}-"

    def _sweep(self) -> None:
        """Removes the shared memory of stubs that were killed."""
        for left in SHARED_MEMORY.glob(f"{self._memory_prefix}*"):
            left.unlink(missing_ok=True)


def _environment() -> Path:
    return cache_directory() / Triton.name / "venv"


def _python() -> Path:
    return _environment() / "bin" / "python3"


def _site_packages() -> Path:
    return Path(_about(_python())["packages"])


def _about(python: Path | str) -> dict[str, str]:
    """Where an interpreter has its packages and its library."""
    run = subprocess.run([python, "-c", _ABOUT], capture_output=True, text=True, check=True)
    about: dict[str, str] = json.loads(run.stdout)
    return about


def _make_environment(folder: Path) -> None:
    _run([_interpreter(), "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python3"), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--no-deps", "--only-binary=:all:", *PACKAGES])


def _interpreter() -> str:
    """A Python that the packages have wheels for. Raises CannotStart."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        found = shutil.which(f"python{major}.{minor}")
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    raise CannotStart("Triton's Python backend needs Python 3.11 or 3.12, and there is none on the path")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"Triton cannot be installed: {' '.join(command)}\n{done.stdout}{done.stderr}"[-3000:])


def _add_backend(server: Path) -> None:
    """The stub of this Python beside the Python backend, and `triton_model.py` as a backend of its own."""
    stub = server / "python_backend_stubs" / _about(_python())["version"] / "triton_python_backend_stub"
    (server / "backends" / "python" / stub.name).symlink_to(stub)
    folder = server / "backends" / "onnxruntime"
    folder.mkdir()
    shutil.copyfile(_BACKEND, folder / "model.py")
