"""What an execution comes to, written to be obviously right: slow, by rules over the whole graph, from nothing but
the graph. It shares no code with the state machine, and not even its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .dag import Dag, Node

Kind = Literal["COMPLETED", "SKIPPED_OVER", "FAILED", "CANCELLED", "HELD_BACK", "ENDED"]
Said = tuple[object, ...]
_PASSED = ("COMPLETED", "SKIPPED_OVER")
TIMED_OUT = "EXECUTION_TIMED_OUT"


@dataclass(frozen=True)
class Verdict:
    """What a step came to. `image` is the step whose own image its output is, where it passed."""

    kind: Kind
    attempts: int
    in_fallback: bool | None
    result: object = None
    error: str | None = None
    image: str | None = None

    @property
    def passed(self) -> bool:
        return self.kind in _PASSED


@dataclass
class _Doing:
    """What one step does, whatever becomes of the others."""

    phase: Literal["waiting", "running", "delayed", "succeeded", "gave up", "failed"] = "waiting"
    attempt: int = 0
    tries: int = 0
    in_fallback: bool = False
    own_image: bool = False
    result: object = None
    error: str | None = None

    @property
    def answered_well(self) -> bool:
        return self.phase in ("succeeded", "gave up")


@dataclass
class Reference:
    """One execution. Each method is something that happens; `said` then has what is to be done about it.

    `known` is what is known of an earlier run, `lost` the steps whose own image is gone.
    """

    dag: Dag
    known: Mapping[str, Verdict] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    said: list[Said] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    doing: dict[str, _Doing] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    ended: tuple[str, str] | None = None
    first_error: tuple[str, str | None] | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        self.nodes = {node.name: node for node in self.dag.nodes}
        self.doing = {name: _Doing() for name in self.nodes}
        for name, verdict in self.known.items():
            self.doing[name].attempt = verdict.attempts
        self.adopted = self._adopted()
        self.passed_by = {name for name in self.adopted if self._is_passed_by(name, self.adopted)}
        for node in self.dag.nodes:
            if node.name in self.adopted:
                self.verdicts[node.name] = verdict = self.known[node.name]
                self.doing[node.name].own_image = verdict.image == node.name
                self._blame(node.name, verdict)
        self.first = self._follow()

    # What happens.

    def success(self, name: str, attempt: int, result: object, *, unchanged: bool) -> list[Said]:
        doing = self.doing[name]
        if self._runs(name, attempt):
            doing.phase, doing.result = "succeeded", result
            doing.own_image = not unchanged and not self._looks(name)
        elif not self._counted_already(name, attempt):
            self.said.append(("release", name, attempt))
        return self._follow()

    def failure(self, name: str, attempt: int, error: str, *, retryable: bool, retry_after: float) -> list[Said]:
        doing, node = self.doing[name], self.nodes[name]
        if self._runs(name, attempt):
            doing.error = error
            if retryable and doing.tries <= node.retries:
                doing.phase = "delayed"
                delay = min(node.longest_delay, node.first_delay * node.factor ** (doing.tries - 1))
                self.said.append(("schedule", name, attempt + 1, round(delay, 9), node.jitter, retry_after))
            else:
                self._no_more_tries(name)
        return self._follow()

    def due(self, name: str, attempt: int) -> list[Said]:
        if self._waits_for(name, attempt):
            self._start(name)
        return self._follow()

    def hopeless(self, name: str, attempt: int) -> list[Said]:
        if self._waits_for(name, attempt):
            self._no_more_tries(name)
        return self._follow()

    def time_out(self) -> list[Said]:
        if not self.finished:
            self.first_error = self.first_error or ("", TIMED_OUT)
            for name in self._open():
                if self.doing[name].phase == "running":
                    self.doing[name].error = TIMED_OUT
            self._end("FAILED")
        return self._follow()

    def cancel(self, message: str) -> list[Said]:
        if not self.finished:
            self.ended = ("CANCELLED", message)
            self._end("CANCELLED")
        return self._follow()

    @property
    def idle(self) -> bool:
        return not self.finished and not any(self.doing[name].phase == "running" for name in self._open())

    # What follows.

    def _follow(self) -> list[Said]:
        """Applies every rule until nothing changes any more."""
        while any(self._judge(node) for node in self.dag.nodes):
            pass
        if self.dag.fail_fast and any(verdict.kind == "FAILED" for verdict in self.verdicts.values()):
            self._end("CANCELLED")
        while any(self._start_if_ready(node) for node in self.dag.nodes):
            pass
        self._release()
        self._finish()
        said, self.said = self.said, []
        return said

    def _judge(self, node: Node) -> bool:
        doing = self.doing[node.name]
        if node.name in self.verdicts:
            return False
        if doing.phase == "failed":
            self._settle(node.name, "FAILED")
        elif any(need in self.verdicts and not self.verdicts[need].passed for need in self._needs(node)):
            self._settle(node.name, "HELD_BACK")
        elif doing.answered_well and all(need in self.verdicts for need in self._needs(node)):
            self._settle(node.name, "COMPLETED" if doing.phase == "succeeded" else "SKIPPED_OVER")
        return node.name in self.verdicts

    def _start_if_ready(self, node: Node) -> bool:
        if self.doing[node.name].phase != "waiting" or node.name in self.verdicts or not self._ready(node):
            return False
        self._start(node.name)
        return True

    def _ready(self, node: Node) -> bool:
        """A looker's output is its input, so what needs one waits for what the looker waits for."""
        return all(
            self._ready(self.nodes[need]) if self._soft(need) and need not in self.adopted else self._has_passed(need)
            for need in self._needs(node)
        )

    def _soft(self, name: str) -> bool:
        return self.nodes[name].looks and self.nodes[name].fallback is None

    def _has_passed(self, name: str) -> bool:
        return name in self.verdicts and self.verdicts[name].passed

    def _start(self, name: str) -> None:
        doing = self.doing[name]
        doing.phase, doing.attempt, doing.tries = "running", doing.attempt + 1, doing.tries + 1
        images = tuple(self._image(feed) for feed in self._feeds(self.nodes[name]))
        self.said.append(("start", name, doing.attempt, doing.in_fallback, images))

    def _no_more_tries(self, name: str) -> None:
        doing, node = self.doing[name], self.nodes[name]
        if node.fallback is not None and not doing.in_fallback:
            doing.in_fallback, doing.tries = True, 0
            self._start(name)
        else:
            doing.phase = "gave up" if node.on_failure == "SKIP" else "failed"

    def _settle(self, name: str, kind: Kind) -> None:
        doing = self.doing[name]
        if doing.phase in ("running", "delayed"):
            self.said.append(("cancel", name, doing.attempt + (doing.phase == "delayed")))
        passed = kind in _PASSED
        verdict = Verdict(
            kind=kind,
            attempts=doing.attempt,
            in_fallback=doing.in_fallback if doing.attempt else None,
            result=doing.result if kind == "COMPLETED" else None,
            error=doing.error if kind in ("SKIPPED_OVER", "FAILED", "CANCELLED") else None,
            image=self._image(name) if passed else None,
        )
        self.verdicts[name] = verdict
        self._blame(name, verdict)
        self.said.append(("settle", name, verdict))

    def _end(self, kind: Kind) -> None:
        for name in self._open():
            self._settle(name, kind if self.doing[name].phase in ("running", "delayed") else "ENDED")

    def _open(self) -> list[str]:
        return [name for name in self.nodes if name not in self.verdicts]

    def _blame(self, name: str, verdict: Verdict) -> None:
        if verdict.kind == "FAILED" and self.first_error is None:
            self.first_error = (name, verdict.error)

    def _finish(self) -> None:
        if self.finished or self._open():
            return
        self.finished = True
        output = self.verdicts[self.dag.output]
        if self.ended:
            self.said.append(("finish", *self.ended, None, False))
        elif self.first_error:
            self.said.append(("finish", "FAILED", self.first_error[1], None, False))
        else:
            image = self._image(self.dag.output)
            self.said.append(("finish", "COMPLETED", None, image, output.kind == "COMPLETED"))

    # Images.

    def _looks(self, name: str) -> bool:
        node = self.nodes[name]
        return node.fallback_looks if self.doing[name].in_fallback else node.looks

    def _image(self, name: str | None) -> str | None:
        """Whose own image the step's output is, as far as it is known."""
        if name is None:
            return None
        return name if self.doing[name].own_image else self._image(self._feeds(self.nodes[name])[0])

    def _release(self) -> None:
        for name, doing in self.doing.items():
            if doing.own_image and name not in self.released and not self._may_be_asked_for(name):
                self.released.add(name)
                self.said.append(("release", name, doing.attempt))

    def _may_be_asked_for(self, name: str) -> bool:
        """Whether a step's output is still of use: as the pipeline's, to be stored, or to a step."""
        verdict = self.verdicts.get(name)
        if verdict is None:
            return True
        if not verdict.passed:
            return False
        if name == self.dag.output or (self.nodes[name].kept_on_failure and self.doing[name].own_image):
            return True
        return any(self._may_ask(node, name) for node in self.dag.nodes)

    def _may_ask(self, node: Node, name: str) -> bool:
        feeds = self._feeds(node)
        if name not in feeds:
            return False
        passes_it_on = not self.doing[node.name].own_image and feeds[0] == name
        return node.name not in self.verdicts or (passes_it_on and self._may_be_asked_for(node.name))

    # Who is meant.

    def _runs(self, name: str, attempt: int) -> bool:
        return self._is(name, "running") and attempt == self.doing[name].attempt

    def _waits_for(self, name: str, attempt: int) -> bool:
        return self._is(name, "delayed") and attempt == self.doing[name].attempt + 1

    def _is(self, name: str, phase: str) -> bool:
        return name not in self.verdicts and self.doing[name].phase == phase

    def _counted_already(self, name: str, attempt: int) -> bool:
        verdict = self.verdicts.get(name)
        counts = verdict.kind == "COMPLETED" if verdict else self.doing[name].phase == "succeeded"
        return counts and attempt == self.doing[name].attempt

    def _adopted(self) -> set[str]:
        """The steps that had passed or failed for good, less those whose own image is asked for and gone, and the
        pipeline's output where it is."""
        adopted = {name for name, verdict in self.known.items() if verdict.passed or verdict.kind == "FAILED"}
        while gone := [
            name
            for name in adopted
            if self._is_gone(name) and self._is_asked_for(name, adopted) and not self._is_passed_by(name, adopted)
        ]:
            adopted.difference_update(gone)
        return adopted

    def _is_passed_by(self, name: str, adopted: set[str]) -> bool:
        """Whether it had passed on an image that is gone and asked for, which then comes from where it came."""
        passed_on = self.known[name].passed and self.known[name].image != name and name not in self.lost
        return passed_on and name != self.dag.output and self._is_gone(name) and self._is_asked_for(name, adopted)

    def _feeds(self, node: Node) -> tuple[str | None, ...]:
        return node.feeds if node.name in self.adopted else tuple(self._past(feed) for feed in node.feeds)

    def _past(self, name: str | None) -> str | None:
        return self._past(self.nodes[name].feeds[0]) if name in self.passed_by else name  # type: ignore[index]

    def _needs(self, node: Node) -> set[str]:
        return {*node.needs, *(feed for feed in self._feeds(node) if feed is not None)}

    def _is_gone(self, name: str) -> bool:
        """Whether its output was an image that is lost, or came by a step that is not known to have passed."""
        verdict = self.known[name]
        if not verdict.passed:
            return False
        if name in self.lost:
            return True
        before = self.nodes[name].feeds[0]
        if verdict.image == name or before is None:
            return False
        return before not in self.known or not self.known[before].passed or self._is_gone(before)

    def _is_asked_for(self, name: str, adopted: set[str]) -> bool:
        if name == self.dag.output or any(name in node.feeds for node in self.dag.nodes if node.name not in adopted):
            return True
        onwards = [node.name for node in self.dag.nodes if node.feeds[0] == name and node.name in adopted]
        return any(self._is_passed_by(other, adopted) for other in onwards)


def counted(said: list[Said]) -> Counter[Said]:
    """What was said, whatever its order."""
    return Counter(said)
