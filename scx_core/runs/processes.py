"""Which process is meant, and does it still live? A pid alone does not say: the system gives it out again."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import psutil


class ProcessIdentity(NamedTuple):
    """A process that can be told from a later one with the same pid: its birth and its host stand beside."""

    pid: int
    birth: str
    host: str


def identity_of(pid: int | None = None) -> ProcessIdentity | None:
    """The identity of a living process (default: this one); None when it is gone or a zombie."""
    pid = os.getpid() if pid is None else pid
    birth = _birth(pid)
    return None if birth is None else ProcessIdentity(pid, birth, socket.gethostname())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs. One of another host is taken to live: it cannot be asked (but the
    lock of its run can, see `RunFolder.status`)."""
    if identity.host != socket.gethostname():
        return True
    return _birth(identity.pid) == identity.birth


def _birth(pid: int) -> str | None:
    """When a process was born, in words that never change while it lives; None when it is dead.

    Linux counts births in ticks since boot, so the boot's id stands before them; psutil's time of day
    shifts there when the clock is set. Elsewhere the kernel keeps the time of day itself.
    """
    if sys.platform != "linux":
        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.3f}"
        except psutil.Error:
            return None
    try:
        # The name in parentheses may hold spaces and parentheses itself: count from the last one.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}:{ticks}"
