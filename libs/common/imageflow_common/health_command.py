"""`imageflow-health`: whether the service of this container serves; for engines that do not ask gRPC themselves.

Asks the port of `IMAGEFLOW_PORT` on this machine. Ends with status 0 when it serves, else 1 and one line on standard
error.
"""

from __future__ import annotations

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from pydantic_settings import BaseSettings, SettingsConfigDict

from .settings import Port, ServerSettings, load_settings

_TIMEOUT_SECONDS = 3.0


class HealthSettings(BaseSettings):
    """The variable alone: a service whose directory of settings is faulty goes on, and is healthy."""

    model_config = SettingsConfigDict(env_prefix="IMAGEFLOW_")
    port: Port = ServerSettings.model_fields["port"].default


def main() -> None:
    address = f"127.0.0.1:{load_settings(HealthSettings).port}"
    with grpc.insecure_channel(address) as channel:
        try:
            status = HealthStub(channel).Check(HealthCheckRequest(), timeout=_TIMEOUT_SECONDS).status
        except grpc.RpcError as exc:
            raise SystemExit(f"{address}: {exc.code().name}") from exc
    if status != HealthCheckResponse.SERVING:
        raise SystemExit(f"{address}: {HealthCheckResponse.ServingStatus.Name(status)}")


if __name__ == "__main__":
    main()
