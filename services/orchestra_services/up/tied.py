"""The few lines a child of `up` begins in: `python -I -S tied.py PARENT_PID COMMAND...`.

Asks the kernel to end this process (SIGTERM) when its parent dies, however it dies, then becomes COMMAND. The wish
outlives `execve` (prctl(2), PR_SET_PDEATHSIG) and isn't passed on to the command's own children: seats go on without
the hub.
Runs by its path with nothing but the standard library, so that it costs milliseconds.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Never returns when all goes well; 127 when the command can't be started, 1 when the parent is gone already."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the wish was known
        return 1
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{command[0]} can't be started: {error.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
