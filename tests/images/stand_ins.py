"""The real MinIO and Kafka in images made here, which take what their makers' images take, under their names: those
cannot be fetched on every machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from backends.cache import cache_directory
from backends.container import image_of
from backends.kafka import KafkaServer
from backends.minio import MinIO
from tools import images

_KAFKA_ENTRY = """
import os, subprocess
names = {name: value for name, value in os.environ.items() if name.startswith("KAFKA_")}
with open("/tmp/server.properties", "w") as file:
    for name, value in names.items():
        file.write(name.removeprefix("KAFKA_").lower().replace("_", ".") + "=" + value + "\\n")
java = ["/opt/java/openjdk/bin/java", "-Xmx256m", "-cp", "/opt/kafka/libs/*"]
cluster = ["-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", "/tmp/server.properties", "--ignore-formatted"]
subprocess.run([*java, "kafka.tools.StorageTool", "format", *cluster], check=True)
os.execv(java[0], [*java, "kafka.Kafka", "/tmp/server.properties"])
"""
_KAFKA_LINES = (
    "COPY jars /opt/kafka/libs",
    "COPY jvm /opt/java/openjdk",
    "COPY entry.py /entry.py",
    "RUN mkdir -p /var/lib/kafka/data && chown 1000:0 /var/lib/kafka/data",
    "ENV PATH=/opt/java/openjdk/bin:/usr/local/bin:/usr/bin:/bin",
    'VOLUME ["/var/lib/kafka/data"]',
    "USER 1000",
    'CMD ["python3", "/entry.py"]',
)


def make_minio() -> str:
    """Answers its image's name."""
    with tempfile.TemporaryDirectory() as folder:
        minio = MinIO(Path(folder, "minio"))
        minio.install()
        shutil.copy2(minio.command()[0], f"{folder}/minio-server")
        return _make("minio", folder, "COPY minio-server /usr/local/bin/minio", 'ENTRYPOINT ["minio"]')


def make_kafka() -> str:
    """Answers its image's name. Java and jars are where the maker has them, and so is the user who runs them."""
    jvm = Path(os.path.realpath(shutil.which("java") or "")).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        KafkaServer(Path(folder, "kafka")).install()
        shutil.copytree(cache_directory() / "kafka" / "lib", f"{folder}/jars")
        shutil.copytree(jvm, f"{folder}/jvm", ignore_dangling_symlinks=True)
        Path(folder, "entry.py").write_text(_KAFKA_ENTRY)
        return _make("kafka", folder, *_KAFKA_LINES)


def _make(name: str, folder: str, *lines: str) -> str:
    Path(folder, "Dockerfile").write_text("\n".join([f"FROM {images.base_of('resize')}", *lines, ""]))
    images.build_folder(folder, image_of(name))
    return image_of(name)
