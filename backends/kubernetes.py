"""A Kubernetes without nodes: etcd, kube-apiserver and kube-controller-manager, built from their source.

What is applied to it is validated, admitted, defaulted, authorised and counted as in any cluster; no pod ever runs.
"""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from backends.cache import cache_directory, finish, finished, installing
from backends.certificates import make_certificates
from backends.go import go_build, run_go
from backends.server import Server

VERSION = "1.37.2"
ETCD_VERSION = "v3.7.3"
_MODULE = "k8s.io/kubernetes"
_ETCD = "go.etcd.io/etcd/server/v3"
_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kubectl")
_ADMIN_TOKEN = "admin-on-loopback"


class Etcd(Server):
    name = "etcd"
    ports_needed = ("main", "peer")

    def install(self) -> None:
        install()

    def command(self) -> Sequence[str]:
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in self.ports_needed)
        return [
            str(_program("etcd")),
            f"--data-dir={self.directory / 'data'}",
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            *(f"--initial-cluster=default={peer}", "--unsafe-no-fsync"),
        ]

    def ready(self) -> bool:
        return _answers(f"http://127.0.0.1:{self.ports['main']}/readyz")

    def settings(self) -> Mapping[str, str]:
        return {}


class ControllerManager(Server):
    """What counts quotas, and gives each namespace what belongs to it."""

    name = "kube-controller-manager"

    def __init__(self, directory: Path, kubeconfig: Path, signing_key: Path) -> None:
        super().__init__(directory)
        self._kubeconfig, self._signing_key = kubeconfig, signing_key

    def install(self) -> None:
        install()

    def command(self) -> Sequence[str]:
        return [
            str(_program(self.name)),
            f"--kubeconfig={self._kubeconfig}",
            f"--service-account-private-key-file={self._signing_key}",
            *("--bind-address=127.0.0.1", f"--secure-port={self.ports['main']}", "--leader-elect=false"),
            *("--use-service-account-credentials=false", f"--cert-dir={self.directory}"),
        ]

    def ready(self) -> bool:
        trust = ssl._create_unverified_context()
        return _answers(f"https://127.0.0.1:{self.ports['main']}/healthz", trust)

    def settings(self) -> Mapping[str, str]:
        return {}


class Kubernetes(Server):
    """kube-apiserver, with the other two beside it."""

    name = "kubernetes"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._etcd = Etcd(directory / "etcd")
        self._manager = ControllerManager(directory / "manager", self.kubeconfig, self._signing_key)

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def _tls(self) -> Path:
        return self.directory / "tls"

    @property
    def _signing_key(self) -> Path:
        return self._tls / "server.key"

    def install(self) -> None:
        install()

    def prepare(self) -> None:
        if not self._signing_key.exists():
            make_certificates(self._tls)
        (self.directory / "tokens.csv").write_text(f"{_ADMIN_TOKEN},admin,1,system:masters\n")
        cluster = {"server": f"https://127.0.0.1:{self.ports['main']}", "certificate-authority": "tls/ca.pem"}
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tested", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": _ADMIN_TOKEN}}],
            "contexts": [{"name": "tested", "context": {"cluster": "tested", "user": "admin"}}],
            "current-context": "tested",
        }
        self.kubeconfig.write_text(json.dumps(configuration))

    def command(self) -> Sequence[str]:
        return [
            str(_program("kube-apiserver")),
            f"--etcd-servers=http://127.0.0.1:{self._etcd.ports['main']}",
            *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.ports['main']}"),
            *(f"--tls-cert-file={self._tls / 'server.crt'}", f"--tls-private-key-file={self._signing_key}"),
            *(f"--service-account-key-file={self._tls / 'server.crt'}", "--api-audiences=api"),
            f"--service-account-signing-key-file={self._signing_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            *(f"--token-auth-file={self.directory / 'tokens.csv'}", "--authorization-mode=RBAC"),
            *("--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none"),
        ]

    def start(self) -> None:
        self._etcd.start()
        super().start()
        self._manager.start()

    def stop(self) -> None:
        self.kill()

    def kill(self) -> None:
        """All three at once: what they hold is for one test session alone."""
        self._manager.kill()
        super().kill()
        self._etcd.kill()

    def ready(self) -> bool:
        trust = ssl.create_default_context(cafile=self._tls / "ca.pem")
        return _answers(f"https://127.0.0.1:{self.ports['main']}/readyz", trust)

    def settings(self) -> Mapping[str, str]:
        return {"KUBECONFIG": str(self.kubeconfig)}


def install() -> None:
    """Builds all of it once, a quarter of an hour. Raises CannotStart."""
    version = f"{VERSION} {ETCD_VERSION}"
    with installing("kubernetes") as folder:
        if finished(folder, version):
            return
        _write_sources(folder / "sources")
        for name in _PROGRAMS:
            go_build(folder / "sources", f"{_MODULE}/cmd/{name}", folder / name)
        (folder / "etcd-sources").mkdir(exist_ok=True)
        (folder / "etcd-sources" / "go.mod").write_text("module imageflow/etcd\n\ngo 1.26.0\n")
        run_go(["go", "get", f"{_ETCD}@{ETCD_VERSION}"], directory=folder / "etcd-sources", programs=folder)
        go_build(folder / "etcd-sources", _ETCD, folder / "etcd")
        finish(folder, version)


def kubectl() -> Path:
    """The one that was built."""
    return _program("kubectl")


def _program(name: str) -> Path:
    return cache_directory() / "kubernetes" / name


def _write_sources(folder: Path) -> None:
    """Kubernetes replaces the modules that it is published as by folders of its own tree, which `go install` refuses; a
    module that names them by their versions may be built."""
    folder.mkdir(exist_ok=True)
    version = f"v{VERSION}"
    described = run_go(["go", "mod", "download", "-json", f"{_MODULE}@{version}"], directory=folder, programs=folder)
    theirs = Path(json.loads(described)["GoMod"]).read_text()
    staged = sorted(set(re.findall(r"^\s*(k8s\.io/\S+) => \./staging/", theirs, re.M)))
    own = f"v0.{VERSION.split('.', 1)[1]}"
    replaced = [f"replace {module} => {module} {own}" for module in staged]
    lines = ["module imageflow/kubernetes", "", "go 1.26.0", "", "godebug default=go1.26", ""]
    lines += [f"require {_MODULE} {version}", "", *replaced]
    (folder / "go.mod").write_text("\n".join(lines) + "\n")


def _answers(url: str, trust: ssl.SSLContext | None = None) -> bool:
    try:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {_ADMIN_TOKEN}"})
        with urllib.request.urlopen(request, timeout=2, context=trust) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
