"""Files that are either whole or absent: atomic writes, JSON, JSON lines, hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scx_core.errors import ScxError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
_CHUNK = 1 << 20
TEMPORARY = ".tmp-"  # prefix of files that are being written; a kill may leave one behind


def write_atomic(path: Path | str, content: str | bytes, *, durable: bool = True) -> None:
    """Write `content` so that a reader, or a crash at any instant, sees the old file or the new one.

    `durable` also forces it to the disk before it takes its name. Raises ScxError when the disk is full or
    the place cannot be written to.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    replace_atomic(path, lambda temporary: temporary.write_bytes(data), durable=durable, size=len(data))


def replace_atomic(
    path: Path | str, write: Callable[[Path], Any], *, durable: bool = True, size: int | None = None
) -> None:
    """Let `write` fill a temporary file beside `path`, then give it its name in one step.

    `size` (bytes, where it is known) is for the message. Raises ScxError when the disk is full; the old file
    and nothing else is left then.
    """
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        if durable:
            _sync(temporary)
        _rename(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)  # before the free space is counted
        _explain(path, error, size)
        raise
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def disk_full(path: Path, size: int | None = None) -> ScxError:
    """The error for a file of `size` bytes that did not fit: which folder, how much is needed and free."""
    room = []
    if size is not None:
        room.append(f"{in_words(size)} are needed")
    with contextlib.suppress(OSError):
        room.append(f"{in_words(shutil.disk_usage(path.parent).free)} are free in {path.parent}")
    return ScxError(
        f"{path} could not be written: the disk is full or a size limit is reached"
        f"{' (' + ', '.join(room) + ')' if room else ''}.",
        "What was there before is kept. Free some space and start again.",
    )


def in_words(size: float) -> str:
    """Bytes in the unit that people say them in: "3.2 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def overwrite(path: Path, text: str) -> bool:
    """Put `text` where a file is already, for the one message that must get through on a full disk: the old
    bytes have their place. Not atomic; False when even that failed."""
    try:
        with open(path, "r+b") as file:
            file.write(text.encode("utf-8"))
            file.truncate()
    except OSError:
        return False
    return True


def _explain(path: Path, error: OSError, size: int | None = None) -> None:
    """Raise ScxError for a failed write that a user can mend."""
    if error.errno in _FULL:
        raise disk_full(path, size) from error
    if error.errno in _REFUSED:
        remedy = "Choose a folder that you may write to."
        raise ScxError(f"{path} could not be written: {error.strerror}.", remedy) from error


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there; NTFS logs the rename itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(source: Path, target: Path) -> None:
    # On Windows a reader that has the file open makes the rename fail; it is over in milliseconds.
    for _ in range(50 if os.name == "nt" else 0):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(0.01)
    os.replace(source, target)


def to_json_text(data: Any, *, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinities become null, NumPy values numbers and lists, paths text."""
    return json.dumps(_plain(data), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(data: Any) -> Any:
    if data is None or isinstance(data, (str, bool, int)):
        return data
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, (set, frozenset)):
        return sorted(map(_plain, data))
    if isinstance(data, os.PathLike):
        return os.fspath(data)
    if hasattr(data, "tolist"):  # NumPy arrays and scalars, torch tensors
        return _plain(data.tolist())
    raise TypeError(f"{type(data).__name__} has no JSON form")


def write_json(path: Path | str, data: Any, *, durable: bool = True) -> None:
    """`data` as indented JSON, atomically. Raises ScxError when the disk is full."""
    write_atomic(path, to_json_text(data, indent=2) + "\n", durable=durable)


def read_json(path: Path | str) -> Any:
    """The content of a JSON file. Raises ScxError naming the file when it is absent or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ScxError(f"There is no file {path}.", "Check the path.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        problem = f"{path} is not valid JSON ({str(error)[:120]})."
        raise ScxError(problem, "Restore it or make it anew.") from error


def append_jsonl(path: Path | str, record: Mapping[str, Any]) -> None:
    """Add one line. A line torn by a crash before is cut off first. One writer at a time.

    Raises ScxError when the disk is full.
    """
    path = Path(path)
    line = (to_json_text(record) + "\n").encode("utf-8")
    try:
        with open(path, "ab+") as file:
            _cut_torn_line(file)
            file.write(line)
    except OSError as error:
        _explain(path, error)
        raise


def _cut_torn_line(file: Any) -> None:
    """Shorten an open file to the end of its last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _CHUNK)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    file.truncate(end)


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """All records; none when the file is absent. A torn last line (no newline yet) is left out.

    Raises ScxError naming file and line when another line is broken.
    """
    path = Path(path)
    if not path.exists():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0]
    records = []
    for number, line in enumerate(whole.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ScxError(f"Line {number} of {path} is not valid JSON.", "Remove that line.") from error
    return records


def sha256_of(path: Path | str) -> str:
    """SHA-256 (hex) of a file's bytes, or of a folder: the names and bytes of all its files, in name order.

    Raises ScxError when there is nothing at `path`.
    """
    path = Path(path)
    if path.is_file():
        return _hash_file(path).hexdigest()
    if not path.is_dir():
        raise ScxError(f"There is no file or folder {path}.", "Check the path.")
    total = hashlib.sha256()
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    for name in sorted(files):
        total.update(hashlib.sha256(name.encode("utf-8")).digest() + _hash_file(files[name]).digest())
    return total.hexdigest()


def _hash_file(path: Path) -> Any:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest
