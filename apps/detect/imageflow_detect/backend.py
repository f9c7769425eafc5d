"""Where inference runs. `OnnxBackend` runs it in the process with ONNX Runtime; this is the only module that
imports onnxruntime, and only when the first session is opened."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from imageflow_common.errors import Cancelled, DeadlineExceeded, FailedPrecondition, ImageFlowError, Unavailable
from imageflow_common.lifetime import Lifetime, current_lifetime, living
from imageflow_detect.loading import check_size, why_not_loaded
from imageflow_detect.manifest import Manifest, ModelInvalid
from imageflow_detect.models import Model
from imageflow_detect.tensors import Array, Tensor, TensorInfo, check_answer, check_tensors

T = TypeVar("T")

MAX_SESSIONS: Final = 8


class BackendUnavailable(Unavailable):
    """The inference server cannot be reached, or does not answer in time."""

    reason = "INFERENCE_UNAVAILABLE"


class ModelNotServed(FailedPrecondition):
    """The inference server does not serve this version of the model, and does not load it."""

    reason = "MODEL_NOT_SERVED"


class AnswerNotFinite(ImageFlowError):
    """A model answered NaN or infinity."""

    reason = "INFERENCE_FAILED"


class Backend(Protocol):
    """Runs models; safe to use from any thread."""

    @property
    def name(self) -> str:
        """As reported to callers: `onnxruntime` or `triton`."""

    def prepare(self, model: Model) -> None:
        """Loads the model if it is not, so that `infer` only infers. Raises what `infer` raises."""

    def infer(self, model: Model, tensor: Tensor) -> tuple[Array, ...]:
        """What the model answers to one image, `[1, 3, height, width]` of the manifest's type: its outputs, float32,
        in the order of `model.manifest.output_names`.

        Ends with the current lifetime. Raises ModelInvalid when the model cannot be loaded or is not what its
        manifest says, BackendUnavailable or ModelNotServed where a server should run it and cannot, ImageFlowError
        when it fails on this tensor or answers what is no number.
        """

    def close(self) -> None:
        """Lets go of what it holds; inference that runs is finished first. Calling it again does nothing."""


class OnnxSession:
    """One loaded model. One thread per call: parallelism comes from requests.

    No memory arena: measured on a convolutional net of 640×640 it is no faster, and keeps the peak for ever.
    """

    def __init__(self, file: Path) -> None:
        """Raises ModelInvalid, which says why, when ONNX Runtime cannot load the file."""
        check_size(file)
        onnxruntime = _quiet_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(file), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # onnxruntime's errors have no common base
            raise ModelInvalid(why_not_loaded(str(exc))) from exc
        self._run_options: Any = onnxruntime.RunOptions
        self.inputs = tuple(_info(each) for each in self._session.get_inputs())
        self.outputs = tuple(_info(each) for each in self._session.get_outputs())

    def run(self, tensor: Tensor, *, input_name: str, output_names: Sequence[str]) -> tuple[Array, ...]:
        """The outputs for one input. Raises ImageFlowError when ONNX Runtime fails, Cancelled when the work is given
        up: it is asked to stop, and does after the operator at hand."""
        lifetime, options = current_lifetime(), self._run_options()
        try:
            with lifetime.on_give_up(lambda: setattr(options, "terminate", True)):
                return tuple(self._session.run(list(output_names), {input_name: tensor}, options))
        except Exception as exc:  # onnxruntime's errors have no common base
            if lifetime.given_up:
                raise Cancelled("nobody waits for the inference any more") from exc
            raise ImageFlowError("the model failed on this image", reason="INFERENCE_FAILED") from exc


def _quiet_onnxruntime() -> Any:
    """ONNX Runtime, which must not report to its makers: unless told so before it is imported, it sends usage events
    to them, and leaves files in the home and temporary folders."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


class OnnxBackend:
    """Sessions shared by (model, version), opened when first asked for and warmed up with a blank image.

    At most `max_sessions` are held; the longest unused goes first, as soon as no call runs in it. So does one
    whose file is gone, with the next call. At most `max_running` calls run at a time, as many as there are cores unless
    given: the others wait.
    """

    name = "onnxruntime"

    def __init__(self, *, max_sessions: int = MAX_SESSIONS, max_running: int | None = None) -> None:
        if max_sessions < 1:
            raise ValueError("max_sessions must be at least 1")
        self._turns = threading.BoundedSemaphore(max_running or os.cpu_count() or 1)
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[tuple[str, int], Future[OnnxSession]] = OrderedDict()
        self._files: dict[tuple[str, int], Path] = {}
        self._lock = threading.Lock()

    def prepare(self, model: Model) -> None:
        """See Backend."""
        self._forget_removed()
        self._session(model)

    def infer(self, model: Model, tensor: Tensor) -> tuple[Array, ...]:
        """See Backend."""
        session, manifest = self._session(model), model.manifest
        with self._turn():
            answer = session.run(tensor, input_name=manifest.input.name, output_names=manifest.output_names)
        return checked(answer, manifest)

    def loaded(self) -> tuple[tuple[str, int], ...]:
        """The (model, version) pairs held or being opened, the longest unused first."""
        with self._lock:
            return tuple(self._sessions)

    def close(self) -> None:
        """See Backend."""
        with self._lock:
            self._sessions.clear()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=min(current_lifetime().remaining(), threading.TIMEOUT_MAX)):
            raise DeadlineExceeded("the deadline passed while waiting for a turn of the model")
        try:
            yield
        finally:
            self._turns.release()

    def _session(self, model: Model) -> OnnxSession:
        """The shared session; the first caller opens it, the others wait for it and share its error."""
        with self._lock:
            future = self._sessions.get(model.key)
            mine = future is None
            if future is None:
                future = self._sessions[model.key] = Future()
                self._files[model.key] = model.file
                self._evict()
            self._sessions.move_to_end(model.key)
        if mine:
            self._open(model, future)
        return result_of(future)

    def _open(self, model: Model, future: Future[OnnxSession]) -> None:
        try:
            future.set_result(_warm_session(model))
        except BaseException as exc:  # whoever waits must hear of it
            with self._lock:
                if self._sessions.get(model.key) is future:
                    del self._sessions[model.key]  # the next call tries again
            future.set_exception(exc)

    def _evict(self) -> None:
        while len(self._sessions) > self._max_sessions:
            self._sessions.popitem(last=False)

    def _forget_removed(self) -> None:
        with self._lock:
            for key in [key for key in self._sessions if not self._files[key].exists()]:
                del self._sessions[key]


def result_of(future: Future[T], seconds: float | None = None) -> T:
    """What several wait for. Each gets an error of its own: one that several raise collects the frames of all of them,
    and whoever empties those frames to let go of an image (`rpc.py`) ends calls that still run. Raises TimeoutError
    after `seconds`."""
    error = future.exception(seconds)
    if error is None:
        return future.result()
    raise copy(error) from error.__cause__


def checked(answer: tuple[Array, ...], manifest: Manifest) -> tuple[Array, ...]:
    """The answer, when it is shaped as the manifest says and finite: a value that is no number would end up as a box
    that nobody saw, or as none where there is something. Raises ModelInvalid and AnswerNotFinite."""
    check_answer(answer, manifest)
    for array in answer:
        with np.errstate(over="ignore", invalid="ignore"):
            total = array.sum()  # three times quicker than looking at each
        if not np.isfinite(total) and not np.isfinite(array).all():
            raise AnswerNotFinite("the model answered what is no finite number")
    return answer


def check_model(session: OnnxSession, manifest: Manifest) -> None:
    """Raises ModelInvalid when the model's tensors are not what the manifest says, or when it does not run on a blank
    image."""
    check_tensors(session.inputs, session.outputs, manifest)
    blank = np.zeros(manifest.input_shape, manifest.input.type)
    try:
        checked(session.run(blank, input_name=manifest.input.name, output_names=manifest.output_names), manifest)
    except ModelInvalid:
        raise
    except ImageFlowError as exc:
        raise useless(manifest, exc) from exc


def useless(manifest: Manifest, error: ImageFlowError) -> ModelInvalid:
    """Of a model that fails on a blank image."""
    return ModelInvalid(f"model '{manifest.name}' does not run on a blank image: {error.message}")


def _warm_session(model: Model) -> OnnxSession:
    session = OnnxSession(model.file)
    with living(Lifetime()):  # others wait for it too
        check_model(session, model.manifest)
    return session


def _info(argument: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in argument.shape)
    return TensorInfo(argument.name, argument.type, shape)
