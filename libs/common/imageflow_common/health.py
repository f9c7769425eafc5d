"""`python -m imageflow_common.health HOST:PORT`: exits with 0 if it serves, else with 1 and a word why."""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_SECONDS = 2.0


def check(address: str, *, timeout: float = _TIMEOUT_SECONDS) -> str:
    """Asks the server as a whole; answers `SERVING`, another state's name, or the name of a gRPC status."""
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError as exc:
            return str(exc.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


def main() -> None:
    """The command."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m imageflow_common.health HOST:PORT")
    state = check(sys.argv[1])
    if state != "SERVING":
        raise SystemExit(f"{sys.argv[1]}: {state}")


if __name__ == "__main__":
    main()
