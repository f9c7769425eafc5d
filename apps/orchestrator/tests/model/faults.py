"""Faults that the model-based tests must find: each is one change to the text of the state machine."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import imageflow_orchestrator

from .drive import Api

MODULES = ("state", "state_machine", "state_track", "state_resume")


@dataclass(frozen=True)
class Fault:
    """`old`, which stands once in the module, becomes `new`."""

    says: str
    module: str
    old: str
    new: str


def copied(folder: Path, fault: Fault | None = None) -> Api:
    """The state machine's modules, copied to a package's folder with the fault in them; all others are the real
    ones."""
    sources = Path(imageflow_orchestrator.__file__).parent
    for module in MODULES:
        text = (sources / f"{module}.py").read_text()
        if fault is not None and fault.module == module:
            assert text.count(fault.old) == 1, f"stands {text.count(fault.old)} times: {fault.old}"
            text = text.replace(fault.old, fault.new)
        others = rf"from \.(?!(?:{'|'.join(MODULES)}) )"
        (folder / f"{module}.py").write_text(re.sub(others, "from imageflow_orchestrator.", text))
    importlib.invalidate_caches()
    return cast(Api, importlib.import_module(f"{folder.name}.state"))


FAULTS = (
    Fault(
        "a step starts before the last of what it waits for",
        "state_machine",
        "if not follower.missing and follower.phase is Phase.WAITING]",
        "if follower.missing <= 1 and follower.phase is Phase.WAITING]",
    ),
    Fault(
        "a step that was held back starts all the same",
        "state_machine",
        "if not follower.missing and follower.phase is Phase.WAITING]",
        "if not follower.missing]",
    ),
    Fault(
        "what runs beside a looker counts at once",
        "state_machine",
        "        if track.withheld:\n",
        "        if False:\n",
    ),
    Fault(
        "what was withheld is forgotten",
        "state_machine",
        "if not follower.withheld and follower.withheld_outcome is not None:",
        "if follower.withheld and follower.withheld_outcome is not None:",
    ),
    Fault(
        "one retry too many",
        "state_machine",
        "track.tries <= track.step.retry.max_retries",
        "track.tries <= track.step.retry.max_retries + 1",
    ),
    Fault(
        "what cannot succeed is tried again",
        "state_machine",
        "if event.failure.retryable and track.tries",
        "if track.tries",
    ),
    Fault(
        "the fallback has only the retries that are left",
        "state_machine",
        "track.call, track.tries = track.step.fallback, 0",
        "track.call = track.step.fallback",
    ),
    Fault(
        "a fallback that fails is tried for ever",
        "state_machine",
        "if track.step.fallback is not None and not track.in_fallback:",
        "if track.step.fallback is not None:",
    ),
    Fault(
        "what the component asked for is not waited for",
        "state_machine",
        "retry_after or timedelta(0)",
        "timedelta(0)",
    ),
    Fault(
        "delays are those of the step's whole number of attempts",
        "state_machine",
        "retry.delay(track.tries)",
        "retry.delay(track.attempt)",
    ),
    Fault(
        "a retry repeats a number",
        "state_machine",
        "                track.attempt + 1,\n                retry.delay",
        "                track.attempt,\n                retry.delay",
    ),
    Fault(
        "a retry that comes twice starts the step twice",
        "state_machine",
        "if track.phase is Phase.BACKING_OFF and event.attempt == track.attempt + 1:\n            self._start(track)",
        "if event.attempt in (track.attempt, track.attempt + 1):\n            self._start(track)",
    ),
    Fault(
        "a hopeless retry is waited for",
        "state_machine",
        "event.attempt == track.attempt + 1:\n            self._stop_trying(track)",
        "event.attempt == track.attempt + 1:\n            return",
    ),
    Fault(
        "a hopeless retry does without the fallback",
        "state_machine",
        "event.attempt == track.attempt + 1:\n            self._stop_trying(track)",
        "event.attempt == track.attempt + 1:\n            self._give_up(track)\n            self._settle_all()",
    ),
    Fault(
        "an answer to an earlier attempt counts",
        "state_machine",
        "return track.phase is Phase.RUNNING and attempt == track.attempt",
        "return track.phase is Phase.RUNNING",
    ),
    Fault(
        "an answer after the end counts",
        "state_machine",
        "return track.phase is Phase.RUNNING and attempt == track.attempt",
        "return attempt == track.attempt",
    ),
    Fault(
        "a late answer is kept for ever",
        "state_machine",
        "        if not repeated:\n",
        "        if False:\n",
    ),
    Fault(
        "an answer that is said again is released",
        "state_machine",
        "        if not repeated:\n",
        "        if True:\n",
    ),
    Fault(
        "what is cancelled goes on running",
        "state_machine",
        "        if track.phase in (Phase.RUNNING, Phase.BACKING_OFF):\n            scheduled",
        "        if track.phase is Phase.BACKING_OFF:\n            scheduled",
    ),
    Fault(
        "a scheduled retry is cancelled under the last attempt's number",
        "state_machine",
        "track.attempt + scheduled",
        "track.attempt",
    ),
    Fault(
        "a failure ends no other step under failFast",
        "state_machine",
        "if self._failure is not None and self._plan.fail_fast:",
        "if False:",
    ),
    Fault(
        "a failure ends every other step without failFast",
        "state_machine",
        "if self._failure is not None and self._plan.fail_fast:",
        "if self._failure is not None:",
    ),
    Fault(
        "a step that may be skipped fails",
        "state_machine",
        "if track.step.on_failure is OnFailure.SKIP:",
        "if False:",
    ),
    Fault(
        "a step that answered no image is taken for its source",
        "state_machine",
        "if track.call.changes_image and not event.unchanged:",
        "if track.call.changes_image:",
    ),
    Fault(
        "a step that is skipped passes the pipeline's input on",
        "state_machine",
        "track.image = self._image_of(track.call.passes_on)",
        "track.image = None",
    ),
    Fault(
        "the second slot gets the first slot's image",
        "state_machine",
        "fed.position, self._image_of(fed.step_id))",
        "fed.position, self._image_of(track.call.passes_on))",
    ),
    Fault(
        "an image is released while what ran beside a looker still reads it",
        "state_machine",
        "        self._loose.append(track)\n\n",
        "        self._loose.append(track)\n        self._release_loose()\n\n",
    ),
    Fault(
        "an image is released before the last that takes it",
        "state_track",
        "self.takers > 0",
        "self.takers > 1",
    ),
    Fault(
        "the output is released",
        "state_machine",
        "        track.takers += step.is_output\n",
        "",
    ),
    Fault(
        "what is to be stored on failure is released",
        "state_track",
        "(self.takers > 0 or stored_later)",
        "self.takers > 0",
    ),
    Fault(
        "an image that was only a mask is held as if it were passed on",
        "state_machine",
        "if step_id != passed_on]",
        "if passed_on is None]",
    ),
    Fault(
        "the last failure is the execution's",
        "state_machine",
        "        if self._failure is None:\n            self._status",
        "        if True:\n            self._status",
    ),
    Fault(
        "a failure is nobody's",
        "state_machine",
        "track.failure = replace(event.failure, step_id=event.step_id)",
        "track.failure = event.failure",
    ),
    Fault(
        "what is cancelled has failed",
        "state_machine",
        "        self._status = Status.CANCELLED\n",
        "        self._status = Status.FAILED\n",
    ),
    Fault(
        "time-outs hide the last error of a step that waits for its retry",
        "state_machine",
        "            if track.phase is Phase.RUNNING:\n",
        "            if track.phase in (Phase.RUNNING, Phase.BACKING_OFF):\n",
    ),
    Fault(
        "the end is reported twice",
        "state_machine",
        "        if self.finished:\n            return\n        self._status",
        "        self._status",
    ),
    Fault(
        "a skipped output is said to be encoded",
        "state_machine",
        "encoded_by_output_step=completed and output.status is Status.COMPLETED",
        "encoded_by_output_step=completed",
    ),
    Fault(
        "a waiting retry is taken for work",
        "state_machine",
        "(phase is Phase.RUNNING) - (track.phase is Phase.RUNNING)",
        "(phase is Phase.RUNNING) - (track.phase is Phase.RUNNING and phase is not Phase.BACKING_OFF)",
    ),
    Fault(
        "finished steps run again",
        "state_resume",
        "    if outcome.passed:\n",
        "    if False:\n",
    ),
    Fault(
        "failed steps run again",
        "state_resume",
        "return outcome.status is Status.FAILED and outcome.failure is not None",
        "return False",
    ),
    Fault(
        "a lost image is read",
        "state_resume",
        "return there or not needed",
        "return True",
    ),
    Fault(
        "a finished step runs again though nobody asks for its lost image",
        "state_resume",
        "return there or not needed",
        "return there",
    ),
    Fault(
        "the output's lost image is not made again",
        "state_resume",
        "asked_for = {plan.output.step_id}",
        "asked_for = set()",
    ),
    Fault(
        "the inputs of a step that runs again are not asked for",
        "state_resume",
        "            asked_for.update(feeding(step))\n",
        "            pass\n",
    ),
    Fault(
        "what follows a finished looker waits for what runs again before the looker",
        "state_resume",
        "    if not adopted:\n",
        "    if True:\n",
    ),
    Fault(
        "a passed-on image is there though the step that it came by runs again",
        "state_resume",
        "if came_by is None or came_by in found:",
        "if came_by is None or came_by not in lost:",
    ),
    Fault(
        "a step that passed on what is gone runs again",
        "state_resume",
        "elif outcome is not None and _passed_on(step, outcome) and step.step_id not in lost:",
        "elif False:",
    ),
    Fault(
        "what takes an image past a finished step does not wait for it",
        "state_resume",
        "return replace(step, dependencies=(*step.dependencies, *new), withheld_by=withheld_by)",
        "return step",
    ),
    Fault(
        "what takes an image past a finished step passes before the looker that it came by",
        "state_resume",
        "withheld_by = (*step.withheld_by, *(fed for fed in new if fed in soft))",
        "withheld_by = step.withheld_by",
    ),
    Fault(
        "an image that is taken past a finished step is not held for that",
        "state_machine",
        "fed_by = (self._taken_from(step, step_id) for step_id in feeding(step))",
        "fed_by = iter(feeding(step))",
    ),
    Fault(
        "attempts are numbered from one again",
        "state_machine",
        "self._tracks[step_id].attempt = attempt",
        "self._tracks[step_id].attempt = 0",
    ),
    Fault(
        "a failure of the earlier run holds nothing back",
        "state_machine",
        "            if track.passed:\n                self._unblocked_by(track)\n",
        "            if True:\n                self._unblocked_by(track)\n",
    ),
    Fault(
        "what was settled is told again",
        "state_machine",
        "        self._settle(track, outcome)\n        return track\n",
        "        self._conclude(track, outcome)\n        return track\n",
    ),
    Fault(
        "it begins with the last step",
        "state_machine",
        "            if track.phase is Phase.WAITING and not track.missing:\n",
        "            if track.phase is Phase.WAITING and track.missing:\n",
    ),
)
