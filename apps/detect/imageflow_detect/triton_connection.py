"""The connection to Triton: its gRPC service
(https://github.com/triton-inference-server/server, "Inference Protocols and APIs"), by the messages of tritonclient."""

from __future__ import annotations

import math
from typing import Any, Final

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from imageflow_common.errors import Cancelled
from imageflow_common.lifetime import current_lifetime
from imageflow_common.rpc import channel_options
from imageflow_common.telemetry import context_to_metadata

MESSAGES: Final[Any] = service_pb2


class Fault(Exception):
    """A call of Triton failed: the name of a gRPC status code, and Triton's words, which may hold paths of its."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(code, words)
        self.code = code


class Connection:
    """One channel to Triton. A call ends no later than the work of the thread that makes it, and with it."""

    def __init__(self, url: str, *, max_message_bytes: int) -> None:
        """`url`: a gRPC target, such as `HOST:PORT`. Nothing is connected yet."""
        options = [option for option in channel_options(max_message_bytes) if "keepalive" not in option[0]]
        self._channel = grpc.insecure_channel(url, options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def call(self, method: str, request: Any, *, timeout: float) -> Any:
        """Raises Fault; Cancelled when the work is given up."""
        lifetime = current_lifetime()
        seconds = min(timeout, lifetime.remaining())
        future = getattr(self._stub, method).future(
            request, timeout=None if math.isinf(seconds) else seconds, metadata=context_to_metadata()
        )
        with lifetime.on_give_up(future.cancel):
            try:
                return future.result()
            except grpc.FutureCancelledError as exc:
                raise Cancelled("nobody waits for the inference any more") from exc
            except grpc.RpcError as exc:
                raise Fault(exc.code().name, exc.details() or "") from exc

    def close(self) -> None:
        self._channel.close()
