"""How long the process has been running: a deadline given on the command line includes that."""

from __future__ import annotations

import os
import time
from pathlib import Path

_own = False
"""Whether the process is a command, and not one that calls it as a function."""


def command_started() -> None:
    """Say that the process was started for the command it runs."""
    global _own
    _own = True


def spent() -> float:
    """Return the seconds since the command's process was started; 0 where that is not known."""
    return since(Path("/proc/self/stat")) if _own else 0.0


def since(stat: Path) -> float:
    """Return the seconds since the start of the process with this `stat` file of Linux."""
    try:
        # The name, second of the fields, is in brackets and may hold anything.
        fields = stat.read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0
