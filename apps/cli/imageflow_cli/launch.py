"""Becomes another program that dies with the process that started it. Runs as a script, on the standard library
alone, so that it costs some 15 ms: `python -I -S launch.py PARENT_PID COMMAND…`."""

import ctypes
import os
import signal
import sys

CANNOT_START = 127
"""The status of a program that is not there or may not be run, as in a shell."""

_PR_SET_PDEATHSIG = 1


def launch(parent: int, command: list[str]) -> int:
    """Replaces this process by the command; only Linux can tie its life to the parent's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            return 1
    try:
        os.execvp(command[0], command)  # noqa: S606  # no shell is what is wanted
    except OSError as exc:
        print(f"cannot run {command[0]}: {exc.strerror}", file=sys.stderr)
        return CANNOT_START


if __name__ == "__main__":
    sys.exit(launch(int(sys.argv[1]), sys.argv[2:]))
