"""Inference by NVIDIA Triton, over gRPC. Imported only where a Triton is configured: it needs tritonclient."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, Final

import numpy as np

from imageflow_common.errors import Cancelled, DeadlineExceeded, ImageFlowError, Overloaded
from imageflow_common.lifetime import Lifetime, current_lifetime, living
from imageflow_detect.backend import AnswerNotFinite, BackendUnavailable, ModelNotServed, checked, result_of, useless
from imageflow_detect.manifest import ModelInvalid
from imageflow_detect.models import Model
from imageflow_detect.tensors import Array, Tensor, check_tensors
from imageflow_detect.triton_connection import MESSAGES, Connection, Fault
from imageflow_detect.triton_memory import CannotRegister, InUse, TensorMemory
from imageflow_detect.triton_wire import Layout, infer_request, outputs_of, tensor_infos

_ASK_SECONDS: Final = 2.0
_LOAD_ANEW_SECONDS: Final = 30.0
"""How often a model is loaded anew, at most."""
_TICK_SECONDS: Final = 0.01
"""gRPC may find that a deadline has passed a little before we do."""
_RETRY_AFTER: Final = timedelta(milliseconds=200)
_NOWHERE: Final = Layout.of(0, {})


@dataclass(frozen=True, slots=True)
class TritonOptions:
    """`url`: `HOST:PORT` of Triton's gRPC. `timeout_seconds`: the longest that one inference may take, however much
    time its caller has. `load_models`: ask Triton to load what it does not serve."""

    url: str
    timeout_seconds: float = 10.0
    load_seconds: float = 60.0
    load_models: bool = True
    shared_memory: bool = True
    max_message_bytes: int = 256 << 20

    @property
    def on_this_machine(self) -> bool:
        host = self.url.rpartition(":")[0].strip("[]")
        return host in ("localhost", "::1") or host.startswith("127.")


class TritonBackend:
    """See Backend. A model is *presented* when it is first asked for, and again after Triton was away: Triton says that
    it serves it, its metadata is what the manifest says, and a blank image goes through.
    """

    name = "triton"

    def __init__(self, options: TritonOptions) -> None:
        self._options = options
        self._connection = Connection(options.url, max_message_bytes=options.max_message_bytes)
        self._presented: dict[tuple[str, int], Future[Layout]] = {}
        self._loaded_anew: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()
        self._why_unready = ""
        shares = options.shared_memory and options.on_this_machine
        self._memory = TensorMemory(_Registrar(self._connection)) if shares else None
        if self._memory is not None:
            self._memory.sweep()

    def prepare(self, model: Model) -> None:
        """See Backend."""
        self._check_ready()
        try:
            self._layout(model)
        except Fault as fault:
            raise self._error(fault) from fault

    def infer(self, model: Model, tensor: Tensor) -> tuple[Array, ...]:
        """See Backend."""
        self._check_ready()
        try:
            layout = self._layout(model)
            try:
                return self._ask(model, tensor, layout)
            except Fault as fault:
                if not self._lost(model, layout, fault):
                    raise
            return self._ask(model, tensor, self._layout(model))
        except Fault as fault:
            raise self._error(fault) from fault

    def unready(self) -> str:
        """Why Triton cannot be used, empty when it can: asked of it now, and believed by `infer` until it is asked
        again. Everything is presented anew once Triton is back."""
        try:
            live = self._connection.call("ServerLive", MESSAGES.ServerLiveRequest(), timeout=_ASK_SECONDS).live
            reason = "" if live else f"Triton at {self._options.url} is not live"
        except Fault as fault:
            reason = f"Triton at {self._options.url} {_WORDS.get(fault.code, 'does not answer as it should')}"
        if reason:
            self._forget_all()
        self._why_unready = reason
        return reason

    def close(self) -> None:
        """See Backend."""
        if self._memory is not None:
            self._memory.close()
        self._connection.close()

    def _check_ready(self) -> None:
        if self._why_unready:
            raise BackendUnavailable("the inference server is not available")

    def _layout(self, model: Model) -> Layout:
        """Of a model that is presented; the first caller does it, the others wait for it and share its error."""
        while True:
            with self._lock:
                future = self._presented.get(model.key)
                mine = future is None
                if future is None:
                    future = self._presented[model.key] = Future()
            if mine:
                self._present(model, future)
            seconds = current_lifetime().remaining()
            try:
                return result_of(future, min(seconds, threading.TIMEOUT_MAX))
            except TimeoutError as exc:
                raise DeadlineExceeded("the model was not ready in time") from exc
            except (Cancelled, DeadlineExceeded):
                if mine:
                    raise  # otherwise it was somebody else's time that was over

    def _present(self, model: Model, future: Future[Layout]) -> None:
        try:
            future.set_result(self._introduced(model))
        except BaseException as exc:  # whoever waits must hear of it
            with self._lock:
                if self._presented.get(model.key) is future:
                    del self._presented[model.key]  # the next call tries again
            future.set_exception(exc)

    def _introduced(self, model: Model) -> Layout:
        if not self._is_served(model):
            self._load(model)
        asked = MESSAGES.ModelMetadataRequest(name=model.name, version=str(model.version))
        metadata = self._call("ModelMetadata", asked, _ASK_SECONDS)
        outputs = tensor_infos(metadata.outputs)
        check_tensors(tensor_infos(metadata.inputs), outputs, model.manifest)
        blank = np.zeros(model.manifest.input_shape, model.manifest.input.type)
        try:
            answer = self._ask(model, blank, _NOWHERE)
        except Fault as fault:
            if fault.code != "INTERNAL" or not self._may_load_anew(model):
                raise
            self._load_anew(model)
            answer = self._ask(model, blank, _NOWHERE)
        except AnswerNotFinite as exc:
            raise useless(model.manifest, exc) from exc
        open_ended = {info.name for info in outputs if None in info.shape[1:]}
        sizes = zip(model.manifest.output_names, answer, strict=True)
        return Layout.of(blank.nbytes, {name: array.nbytes for name, array in sizes if name not in open_ended})

    def _ask(self, model: Model, tensor: Tensor, layout: Layout) -> tuple[Array, ...]:
        if self._memory is None or layout is _NOWHERE:
            request = infer_request(model, tensor, None, layout)
            response = self._call("ModelInfer", request, self._options.timeout_seconds)
            return checked(outputs_of(response, model.manifest, None, layout), model.manifest)
        with self._memory.lend(layout.size_bytes) as region:
            request = infer_request(model, tensor, region, layout)
            response = self._call("ModelInfer", request, self._options.timeout_seconds)
            answer = outputs_of(response, model.manifest, region, layout)
        return checked(answer, model.manifest)

    def _load(self, model: Model) -> None:
        missing = ModelNotServed(f"the inference server does not serve model '{model.name}' version {model.version}")
        if not self._options.load_models:
            raise missing
        try:
            asked = MESSAGES.RepositoryModelLoadRequest(model_name=model.name)
            self._call("RepositoryModelLoad", asked, self._options.load_seconds)
        except Fault as fault:
            if fault.code == "DEADLINE_EXCEEDED" or not self._is_served(model):
                raise missing from fault
        if not self._is_served(model):
            raise missing

    def _may_load_anew(self, model: Model) -> bool:
        with self._lock:
            last, now = self._loaded_anew.get(model.key, -math.inf), monotonic()
            may = self._options.load_models and now - last >= _LOAD_ANEW_SECONDS
            if may:
                self._loaded_anew[model.key] = now
        return may

    def _load_anew(self, model: Model) -> None:
        """Triton goes on serving a model whose process has died, with errors, until it is loaded anew."""
        with suppress(Fault):  # what cannot be unloaded is not loaded anew either
            asked = MESSAGES.RepositoryModelUnloadRequest(model_name=model.name)
            self._call("RepositoryModelUnload", asked, _ASK_SECONDS)
            self._load(model)

    def _is_served(self, model: Model) -> bool:
        asked = MESSAGES.ModelReadyRequest(name=model.name, version=str(model.version))
        ready: bool = self._call("ModelReady", asked, _ASK_SECONDS).ready
        return ready

    def _lost(self, model: Model, layout: Layout, fault: Fault) -> bool:
        """Whether Triton no longer has what it had, the model or our memory, so that it is worth presenting it anew.
        Raises Fault when Triton cannot be asked."""
        if fault.code == "INTERNAL":
            self._forget(model, layout)  # the next call finds out whether it is the model or the image
        if fault.code not in ("NOT_FOUND", "UNAVAILABLE"):
            return False
        try:
            served = self._is_served(model)
        except Fault:
            self._forget_all()
            raise
        self._forget(model, layout)
        if served and self._memory is not None:
            self._memory.forget()
        return not served or fault.code == "NOT_FOUND"

    def _call(self, method: str, request: Any, timeout: float) -> Any:
        """Raises Fault, and DeadlineExceeded when it is the caller's time that is over."""
        try:
            return self._connection.call(method, request, timeout=timeout)
        except Fault as fault:
            if fault.code == "DEADLINE_EXCEEDED" and current_lifetime().remaining() < _TICK_SECONDS:
                raise DeadlineExceeded("the inference server did not answer in time") from fault
            raise

    def _error(self, fault: Fault) -> ImageFlowError:
        """For callers; Triton's own words stay in the cause."""
        match fault.code:
            case "UNAVAILABLE" | "CANCELLED":
                return BackendUnavailable("the inference server is not available")
            case "DEADLINE_EXCEEDED":
                return BackendUnavailable("the inference server did not answer in time")
            case "RESOURCE_EXHAUSTED":
                return Overloaded("the inference server takes no more requests now", retry_after=_RETRY_AFTER)
            case "INVALID_ARGUMENT" | "UNIMPLEMENTED":
                self._forget_all()
                return ModelInvalid("the inference server does not take what the model's manifest says")
            case _:
                return ImageFlowError("the model failed on this image", reason="INFERENCE_FAILED")

    def _forget(self, model: Model, layout: Layout) -> None:
        with self._lock:
            future = self._presented.get(model.key)
            if future is not None and future.done() and future.result() is layout:
                del self._presented[model.key]

    def _forget_all(self) -> None:
        with self._lock:
            self._presented = {key: future for key, future in self._presented.items() if not future.done()}
        if self._memory is not None:
            self._memory.forget()


class _Registrar:
    """Triton's registry of shared memory, for TensorMemory."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def register(self, name: str, size_bytes: int) -> None:
        request = MESSAGES.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=size_bytes)
        try:
            self._call("SystemSharedMemoryRegister", request)
        except Fault as fault:
            if fault.code != "ALREADY_EXISTS":
                raise CannotRegister from fault

    def unregister(self, name: str) -> None:
        request = MESSAGES.SystemSharedMemoryUnregisterRequest(name=name)
        try:
            self._call("SystemSharedMemoryUnregister", request)
        except Fault as fault:
            raise (InUse if fault.code == "INTERNAL" else CannotRegister) from fault

    def _call(self, method: str, request: Any) -> None:
        with living(Lifetime()):  # half done would be worse than done for nobody
            self._connection.call(method, request, timeout=_ASK_SECONDS)


_WORDS: Final = {"UNAVAILABLE": "cannot be reached", "DEADLINE_EXCEEDED": "does not answer"}
