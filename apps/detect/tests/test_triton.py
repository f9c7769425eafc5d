"""A real Triton that is killed, stopped, restarted and emptied: never a wrong answer, always an error that says what
kind of fault it is, and everything well again once Triton is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from backends.server import CannotStart
from backends.triton import Triton
from imageflow_common.errors import Cancelled, DeadlineExceeded, ImageFlowError
from imageflow_common.lifetime import Lifetime, living
from imageflow_detect.backend import BackendUnavailable, ModelNotServed, OnnxBackend
from imageflow_detect.fallback import Inference
from imageflow_detect.models import Model, ModelRepository
from imageflow_detect.toy_repository import image_of, put_mean_model, put_slow_model
from imageflow_detect.triton import TritonBackend, TritonOptions
from imageflow_detect.triton_connection import MESSAGES, Connection
from imageflow_detect.triton_memory import DIRECTORY, PREFIX, CannotRegister, TensorMemory

T = TypeVar("T")

DIES = """
import os, signal, sys
from pathlib import Path
from imageflow_detect.models import ModelRepository
from imageflow_detect.toy_repository import image_of
from imageflow_detect.triton import TritonBackend, TritonOptions
TritonBackend(TritonOptions(sys.argv[1])).infer(ModelRepository(Path(sys.argv[2])).resolve("mean", "1"), image_of(1))
os.kill(os.getpid(), signal.SIGKILL)
"""
LARGE = 2048
"""The side of an image that the allocator maps memory for, each time: more than 32 MiB."""


def eventually(condition: Callable[[], T], *, within: float = 30.0) -> T:
    until = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    folder = tmp_path_factory.mktemp("models")
    put_mean_model(folder, "mean", batch=4)
    put_slow_model(folder)
    return ModelRepository(folder)


@pytest.fixture(scope="module")
def server(repository: ModelRepository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    server = Triton(tmp_path_factory.mktemp("triton"), repository.directory)
    try:
        server.start()
    except CannotStart as exc:
        pytest.skip(f"needs a Triton: {exc}")
    yield server
    server.stop()


@pytest.fixture
def model(repository: ModelRepository) -> Model:
    return repository.resolve("mean", "1")


@pytest.fixture
def backend(request: pytest.FixtureRequest, server: Triton) -> Iterator[TritonBackend]:
    """Over a Triton that runs, whatever the test before did to it; by shared memory, where it is not told otherwise."""
    server.start()
    shared = getattr(request, "param", "shared memory") == "shared memory"
    backend = TritonBackend(TritonOptions(server.url, timeout_seconds=5, shared_memory=shared))
    yield backend
    backend.close()


either_way = pytest.mark.parametrize("backend", ["shared memory", "inline"], indirect=True)


def answer(backend: TritonBackend | Inference | OnnxBackend, model: Model, value: float) -> float:
    return float(backend.infer(model, image_of(value))[0][0, 0, 50])


def answers_again(backend: TritonBackend, model: Model) -> bool:
    try:
        return answer(backend, model, 7) == 7
    except BackendUnavailable:
        return False


def call(server: Triton, method: str, request: object) -> object:
    connection = Connection(server.url, max_message_bytes=1 << 20)
    try:
        return connection.call(method, request, timeout=30)
    finally:
        connection.close()


def test_a_triton_that_is_away_is_unavailable_and_comes_back(
    backend: TritonBackend, server: Triton, model: Model
) -> None:
    assert answer(backend, model, 3) == 3
    assert backend.unready() == ""
    server.kill()
    with pytest.raises(BackendUnavailable):
        answer(backend, model, 3)
    assert backend.unready() == f"Triton at {server.url} cannot be reached"
    with pytest.raises(BackendUnavailable):
        backend.prepare(model)
    server.start()
    assert eventually(lambda: backend.unready() == "")
    assert answer(backend, model, 4) == 4


@either_way
def test_killed_under_load_it_gives_errors_that_may_be_retried_and_no_wrong_answer(
    backend: TritonBackend, server: Triton, model: Model
) -> None:
    stop, errors, wrong = threading.Event(), [], []

    def load(worker: int) -> int:
        right = 0
        while not stop.is_set():
            value = float(worker * 1000 + right % 100)
            try:
                found = answer(backend, model, value)
            except ImageFlowError as exc:
                errors.append(exc)
                time.sleep(0.01)
            else:
                right += found == value
                if found != value:
                    wrong.append((value, found))
        return right

    answer(backend, model, 0)
    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(load, number) for number in range(8)]
        try:
            server.kill()
            eventually(lambda: errors)
            server.start()
            eventually(lambda: answers_again(backend, model))
        finally:
            stop.set()
        assert all(worker.result() > 0 for worker in workers)
    assert wrong == []
    assert {error.code for error in errors} == {"UNAVAILABLE"}


@either_way
def test_one_that_does_not_answer_is_unavailable_after_its_time(
    backend: TritonBackend, server: Triton, model: Model
) -> None:
    assert answer(backend, model, 1) == 1
    hasty = TritonBackend(TritonOptions(server.url, timeout_seconds=0.2))
    assert answer(hasty, model, 1) == 1
    server.pause()
    eventually(lambda: stopped(server))
    try:
        with pytest.raises(BackendUnavailable):
            answer(hasty, model, 2)
        with living(Lifetime(0.2)), pytest.raises(DeadlineExceeded):
            answer(backend, model, 2)
        assert backend.unready() == f"Triton at {server.url} does not answer"
    finally:
        server.resume()
    assert eventually(lambda: backend.unready() == "")
    assert [answer(backend, model, value) for value in range(20)] == [*range(20)]
    assert [answer(hasty, model, value) for value in range(20)] == [*range(20)]
    hasty.close()


def test_a_model_that_was_unloaded_is_loaded_again(backend: TritonBackend, server: Triton, model: Model) -> None:
    assert answer(backend, model, 1) == 1
    call(server, "RepositoryModelUnload", MESSAGES.RepositoryModelUnloadRequest(model_name="mean"))
    assert answer(backend, model, 2) == 2


def test_a_model_that_triton_does_not_have_is_a_failed_precondition(
    backend: TritonBackend, server: Triton, model: Model, tmp_path: Path
) -> None:
    put_mean_model(tmp_path, "other")
    with pytest.raises(ModelNotServed, match="does not serve model 'other' version 1"):
        answer(backend, ModelRepository(tmp_path).resolve("other"), 1)
    call(server, "RepositoryModelUnload", MESSAGES.RepositoryModelUnloadRequest(model_name="mean"))
    modest = TritonBackend(TritonOptions(server.url, load_models=False))
    with pytest.raises(ModelNotServed, match="does not serve model 'mean' version 1"):
        answer(modest, model, 1)
    modest.close()
    assert answer(backend, model, 2) == 2


def test_a_version_added_later_is_served_without_a_restart(
    backend: TritonBackend, model: Model, repository: ModelRepository
) -> None:
    assert answer(backend, model, 1) == 1
    put_mean_model(repository.directory, "mean", batch=4, add=2, version=2)
    assert answer(backend, repository.resolve("mean"), 1) == 1 + 2
    assert answer(backend, model, 1) == 1


def test_a_thousand_questions_for_a_model_that_is_not_loaded_load_it_once(
    backend: TritonBackend, server: Triton, model: Model
) -> None:
    backend.prepare(model)
    call(server, "RepositoryModelUnload", MESSAGES.RepositoryModelUnloadRequest(model_name="mean"))
    before = log_of(server).count("loading: mean:1")
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda number: answer(backend, model, number % 50), range(1000)))
    assert found == [number % 50 for number in range(1000)]
    assert log_of(server).count("loading: mean:1") == before + 1


def test_a_model_whose_process_dies_is_an_error_and_then_loaded_anew(
    backend: TritonBackend, server: Triton, model: Model
) -> None:
    """As the kernel ends one that takes too much memory."""
    assert answer(backend, model, 1) == 1
    for stub in stubs(server):
        stub.kill()
    with pytest.raises(ImageFlowError) as caught:
        answer(backend, model, 2)
    assert (caught.value.code, caught.value.reason) == ("INTERNAL", "INFERENCE_FAILED")
    assert answer(backend, model, 2) == 2


def test_a_model_that_gets_no_memory_is_an_error_and_passes(server: Triton, repository: ModelRepository) -> None:
    put_mean_model(repository.directory, "large", batch=1, side=LARGE)
    large = repository.resolve("large")
    server.start()
    with closing(TritonBackend(TritonOptions(server.url))) as backend:
        backend.prepare(large)
        limits = [(stub, stub.memory_info().vms) for stub in stubs(server)]
        for stub, size in limits:
            stub.rlimit(psutil.RLIMIT_AS, (size, psutil.RLIM_INFINITY))
        with pytest.raises(ImageFlowError) as caught:
            backend.infer(large, image_of(1, side=LARGE))
        assert (caught.value.code, caught.value.reason) == ("INTERNAL", "INFERENCE_FAILED")
        for stub, _ in limits:
            if stub.is_running():
                stub.rlimit(psutil.RLIMIT_AS, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        (found,) = backend.infer(large, image_of(1, side=LARGE))
        assert found[0, 0, 50] == 1


def test_the_fallback_answers_where_triton_is_away_and_says_why(
    backend: TritonBackend, server: Triton, model: Model
) -> None:
    local = OnnxBackend()
    there = Inference(backend, local)
    assert answer(there, model, 1) == 1
    assert (there.ran.backend, there.ran.fallback_reason) == ("triton", "")
    server.kill()
    away = Inference(backend, local)
    assert answer(away, model, 2) == 2
    assert (away.ran.backend, away.ran.fallback_reason) == (
        "onnxruntime",
        "the inference server is not available",
    )
    with pytest.raises(BackendUnavailable):
        answer(Inference(backend), model, 2)
    server.start()


def test_memory_of_a_request_that_was_given_up_is_not_used_while_triton_uses_it(
    backend: TritonBackend, server: Triton, repository: ModelRepository, model: Model
) -> None:
    slow, lifetime = repository.resolve("slow"), Lifetime()
    backend.prepare(slow)
    backend.prepare(model)

    def infer_slowly() -> None:
        with living(lifetime):
            backend.infer(slow, image_of(1))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer_slowly)
        (used,) = eventually(lambda: registered(server))
        lifetime.give_up()
        with pytest.raises(Cancelled):
            running.result()
        assert [answer(backend, model, value) for value in range(10)] == [*range(10)]
    eventually(lambda: answer(backend, model, 1) == 1 and used not in regions())


def test_shared_memory_of_a_process_that_was_killed_is_swept(
    server: Triton, repository: ModelRepository, backend: TritonBackend, model: Model
) -> None:
    assert answer(backend, model, 1) == 1
    mine = registered(server)
    killed = subprocess.run([sys.executable, "-c", DIES, server.url, str(repository.directory)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = registered(server) - mine
    assert len(left) == 1
    TritonBackend(TritonOptions(server.url)).close()
    assert registered(server) == mine
    assert mine <= regions()
    assert not left & regions()
    assert answer(backend, model, 2) == 2


def test_shared_memory_is_removed_at_the_end(server: Triton, model: Model) -> None:
    server.start()
    backend = TritonBackend(TritonOptions(server.url))
    assert answer(backend, model, 1) == 1
    mine = registered(server)
    assert len(mine) == 1
    assert mine <= regions()
    backend.close()
    assert registered(server) == set()
    assert not mine & regions()


def test_requests_in_flight_share_a_batch(backend: TritonBackend, server: Triton, model: Model) -> None:
    assert answer(backend, model, 0) == 0

    def counted() -> tuple[int, int]:
        asked = MESSAGES.ModelStatisticsRequest(name=model.name, version=str(model.version))
        (found,) = call(server, "ModelStatistics", asked).model_stats  # type: ignore[attr-defined]
        return found.inference_count, found.execution_count

    def ran_together() -> bool:
        inferences, executions = counted()
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(lambda value: answer(backend, model, value), range(64))) == [*range(64)]
        more_inferences, more_executions = counted()
        assert more_inferences - inferences == 64
        return more_executions - executions < 64

    assert eventually(ran_together)


def test_what_others_put_beside_shared_memory_is_let_be(tmp_path: Path) -> None:
    """Neither waited for nor removed: a pipe, a link, a folder. A file that nobody holds is swept."""
    os.mkfifo(tmp_path / f"{PREFIX}pipe")
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{PREFIX}folder").mkdir()
    (tmp_path / "other").touch()
    before = sorted(os.listdir(tmp_path))
    (tmp_path / f"{PREFIX}left").touch()
    TensorMemory(NoTriton(), directory=tmp_path).sweep()
    assert sorted(os.listdir(tmp_path)) == before


class NoTriton:
    """What a Triton that is away registers: nothing."""

    def register(self, name: str, size_bytes: int) -> None:
        raise CannotRegister

    def unregister(self, name: str) -> None:
        raise CannotRegister


def stopped(server: Triton) -> bool:
    process = server.process()
    return process is not None and process.status() == psutil.STATUS_STOPPED


def stubs(server: Triton) -> list[psutil.Process]:
    process = server.process()
    assert process is not None
    return [child for child in process.children(recursive=True) if "stub" in child.name()]


def log_of(server: Triton) -> str:
    return (server.directory / "log").read_text()


def regions() -> set[str]:
    return {file.name for file in DIRECTORY.glob(f"{PREFIX}*")}


def registered(server: Triton) -> set[str]:
    status = call(server, "SystemSharedMemoryStatus", MESSAGES.SystemSharedMemoryStatusRequest())
    return set(status.regions)  # type: ignore[attr-defined]
