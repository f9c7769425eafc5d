"""What the gateway answers, read as its callers would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import httpx
import pytest

from imageflow_common.errors import ImageFlowError
from imageflow_common.status import DETAILS_KEY, from_rpc_error

if TYPE_CHECKING:
    from tests.gateway.conftest import Gateway

AnyCall: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Any, Any]"
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def reason(response: httpx.Response) -> str:
    """The reason of an error, which has the one shape that errors have."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()
    assert set(error) == {"code", "message", "details"}
    assert error["message"]
    return str(next(detail["reason"] for detail in error["details"] if detail["@type"] == ERROR_INFO))


async def native_error(gateway: Gateway, method: str, request: bytes = b"", timeout: float = 20) -> ImageFlowError:
    """How a call of native gRPC ends. It must have details."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call: AnyCall = channel.unary_unary(f"/imageflow.v1.{method}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, timeout=timeout)
    assert DETAILS_KEY in dict(caught.value.trailing_metadata() or ())
    error = from_rpc_error(caught.value)
    assert error.message
    return error
