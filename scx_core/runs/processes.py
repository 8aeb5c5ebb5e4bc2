"""Which process is meant, does it still live, and does it hold a file?

A pid alone does not identify a process: the system gives it out again. An exclusive lock is released by the
system itself when its holder dies, however it dies.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from filelock import lock_descriptor, unlock_descriptor

from scx_core.errors import ScxError
from scx_core.runs.files import to_json_text


class ProcessIdentity(NamedTuple):
    """A process that is told from a later one with the same pid: its birth and its host stand beside."""

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


@contextlib.contextmanager
def file_lock(path: Path, what: str) -> Iterator[None]:
    """Hold `path` exclusively, between processes and within one. `what` names the thing in the message.

    The file names its holder, for people only: it may outlive a crash and name a dead process, or a pid that
    has been given out again, and can still be locked. Raises ScxError when it is held.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _locked(handle, path):
            raise ScxError(
                f"{what} is in use by another process{_holder(path)}.", "Wait for it, or stop it first."
            )
        os.ftruncate(handle, 0)
        if identity := identity_of():
            # Windows lets nobody else read the first byte, which is the one that is locked.
            os.write(handle, b" " + to_json_text(identity._asdict()).encode())
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
            unlock_descriptor(handle)
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a process holds `path`, on whichever computer or in whichever container; to find out, it is
    held for an instant. A file that may not be opened is taken to be held."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _locked(handle, path)
    finally:
        os.close(handle)  # which releases it


def _locked(handle: int, path: Path) -> bool:
    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        raise ScxError(
            f"{path.parent} is on a file system that cannot lock files ({error.strerror}).",
            "Keep runs on a local disk.",
        ) from error


def _holder(path: Path) -> str:
    with open(path, encoding="utf-8") as file:
        file.seek(1)
        text = file.read().strip()
    return f" ({text})" if text else ""
