"""An exclusive lock on a file, which the system itself releases when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from scx_core.errors import ScxError
from scx_core.runs.files import to_json_text
from scx_core.runs.processes import identity_of

_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextlib.contextmanager
def file_lock(path: Path, what: str) -> Iterator[None]:
    """Hold `path` exclusively, between processes and within one. `what` names the thing in the message.

    The file says who holds it, for people only: it may outlive a crash and name a dead process, or a pid
    that has been given out again, and can still be taken. Raises ScxError when it is held.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(handle, path):
            raise ScxError(
                f"{what} is in use by another process{_holder(path)}.", "Wait for it, or stop it first."
            )
        os.ftruncate(handle, 0)
        if identity := identity_of():
            os.write(handle, to_json_text(identity._asdict()).encode())
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
            _unlock(handle)
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a process holds `path`, on whichever computer or in whichever container; to see it, it is held
    for an instant. A file that may not be opened is taken to be held."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        free = _try_lock(handle, path)
        if free:
            _unlock(handle)
        return not free
    finally:
        os.close(handle)


def _holder(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:  # Windows may refuse to read a locked file
        return ""
    return f" ({text})" if text else ""


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # a byte beyond the content is locked, so that the content stays readable

    def _try_lock(handle: int, path: Path) -> bool:
        os.lseek(handle, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        return True

    def _unlock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int, path: Path) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise ScxError(
                f"{path.parent} is on a file system that cannot lock files ({error.strerror}).",
                "Keep runs on a local disk.",
            ) from error
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
