"""Which of the accepted executions a process begins, where several share one store."""

from __future__ import annotations

from typing import Protocol

from imageflow.v1.execution_pb2 import Execution


class Share(Protocol):
    """A process's part of what is accepted. It may change at any time; two processes may for a moment believe that they
    hold the same: then the record decides, as each of its writes is conditional."""

    def holds(self, execution_id: str) -> bool: ...

    async def pass_on(self, execution: Execution) -> None:
        """Tells whoever holds or runs it that there is something new in its record. Best effort: he will find it."""
        ...


class _Whole:
    def holds(self, execution_id: str) -> bool:
        return True

    async def pass_on(self, execution: Execution) -> None:
        """There is nobody else, or he looks by himself."""


WHOLE: Share = _Whole()
