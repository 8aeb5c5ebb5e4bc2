"""Files that are either whole or absent: atomic writes, JSON, JSON lines, hashes."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from scx_core.errors import ScxError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REFUSED = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EINVAL, errno.EIO, errno.EBUSY,
}  # fmt: skip
# How HDF5, safetensors and Arrow hand an error of the system on, in words only.
_NUMBER = re.compile(r"(?:errno = |os error |\[errno )(\d+)", re.IGNORECASE)
_CHUNK = 1 << 20
_KEPT_OF_NAME = 100  # letters of a file's name that its temporary one ends with: the whole may be too long
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$",
            *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789\u00b9\u00b2\u00b3")}  # fmt: skip
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

    `size` (bytes, where it is known) is for the message. A link keeps being one: the file that it leads to is
    written. What is no file (a pipe, /dev/stdout) gets the bytes, and keeps its name. Raises ScxError when
    the disk is full or the place cannot be written to; the old file and nothing else is left then.
    """
    path = Path(path)
    path = _resolved(path) if os.path.islink(path) else path  # noqa: PTH114 (of too long a name it says no)
    if _takes_bytes(path):
        return _pour(path, write)
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex[:12]}-{path.name[-_KEPT_OF_NAME:]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        _rename(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except Exception as error:
        _remove(temporary)  # before the free space is counted
        explain(path, error, size)
        raise
    finally:
        _remove(temporary)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a circle of links; a name that the system does not take
        return path.absolute()


def _takes_bytes(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder: a device, a pipe."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _pour(path: Path, write: Callable[[Path], Any]) -> None:
    """Write elsewhere, then send the bytes to what cannot be replaced."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / f"made{path.suffix}"
            write(made)
            with open(made, "rb") as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
    except Exception as error:
        explain(path, error)
        raise


def check_target(
    path: Path | str, *, folder: bool = False, size: int | None = None, inputs: Iterable[Path | str] = ()
) -> None:
    """Whether a file (or with `folder` the files of a folder) can be written there: asked before the work.

    Something is really written beside it, and removed. `size` are the bytes that are needed, where they are
    known; `inputs` are the files and folders that are read, which must not be written over. Raises ScxError.
    """
    if not str(path).strip() or "\0" in str(path):
        kind = "folder" if folder else "file"
        raise ScxError(f"{str(path)!r} is no name of a {kind}.", "Give another one.")
    path = _resolved(Path(path))
    if os.path.islink(path):  # noqa: PTH114 (of a name that is too long it says no)
        raise ScxError(f"{path} is a link that leads to itself.", "Give another place.")
    _check_inputs(path, folder, inputs)
    if not folder and _takes_bytes(path):
        return
    try:
        there = path.is_dir()
        if folder and path.exists() and not there:
            raise ScxError(f"{path} is a file, not a folder.", "Give the name of a folder.")
        if not folder and there:
            raise ScxError(f"{path} is a folder, not a file.", "Give the name of a file.")
        nearest = path if there else path.parent
        while not os.path.lexists(nearest) and nearest != nearest.parent:
            nearest = nearest.parent
        _try(nearest, path)
    except (OSError, ValueError) as error:
        explain(path, error)
        raise ScxError(f"{path} could not be written: {error}.", "Choose another place.") from error
    if size is not None and shutil.disk_usage(nearest).free < size:
        raise disk_full(path, size, nearest)


def _check_inputs(path: Path, folder: bool, inputs: Iterable[Path | str]) -> None:
    for one in map(Path, inputs):
        try:
            if not one.exists():  # a word such as "embedded", or the id of a model
                continue
            here, read = path.resolve(), one.resolve()
            same = here == read or (path.exists() and path.samefile(one))
        except (OSError, ValueError, RuntimeError):
            continue
        if same and folder and read.is_dir():
            raise ScxError(f"{path} is the folder that is read.", "Give the new one another name.")
        if same:
            raise ScxError(f"{path} is the file that is read.", "Give the new file another name.")
        if read.is_dir() and read in here.parents and _is_store(read):
            raise ScxError(f"{path} lies inside of {one}, which is read.", "Choose a place outside of it.")


def _is_store(folder: Path) -> bool:
    return any((folder / name).exists() for name in (".zgroup", "zarr.json"))


def _try(nearest: Path, path: Path) -> None:
    """Write and remove a small file where the first part of `path` would be made; try the names that would
    be made there on the way. Raises OSError."""
    trial = nearest / f"{TEMPORARY}{uuid.uuid4().hex[:12]}"
    try:
        trial.mkdir()
        for part in path.relative_to(nearest).parts:  # a name that is too long, or that is not allowed
            (trial / part).touch()
            (trial / part).unlink()
        probe = trial / "probe"
        probe.write_bytes(b"scx")
        probe.unlink()
    finally:
        if trial.is_dir():
            shutil.rmtree(trial, ignore_errors=True)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def disk_full(path: Path, size: int | None = None, folder: Path | None = None) -> ScxError:
    """The error for a file of `size` bytes that did not fit: which folder (default: the file's own), how much
    is needed and free."""
    room = []
    if size is not None:
        room.append(f"{in_words(size)} are needed")
    folder = folder or path.parent
    with contextlib.suppress(OSError):
        room.append(f"{in_words(shutil.disk_usage(folder).free)} are free in {folder}")
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


def explain(path: Path, error: Exception, size: int | None = None) -> None:
    """Raise ScxError for a failed write that a user can mend; libraries say in words only what it was."""
    number = getattr(error, "errno", None)
    if number is None and (found := _NUMBER.search(str(error))):
        number = int(found[1])
    if number in _FULL or "no space left" in str(error).lower():
        raise disk_full(path, size) from error
    if number in _REFUSED:
        remedy = "Choose a folder that you may write to."
        if number == errno.ENAMETOOLONG:
            remedy = "Choose a shorter name."
        raise ScxError(f"{_short(path)} could not be written: {os.strerror(number)}.", remedy) from error


def _short(path: Path) -> str:
    return str(path) if len(str(path)) <= 300 else f"{str(path)[:120]}…"


def full_or_refused(error: OSError) -> ScxError | None:
    """The one line for an error that only the disk can be blamed for: full, or only to be read; else None."""
    path = Path(str(error.filename)) if error.filename else Path("A file")
    if error.errno in _FULL:
        return disk_full(path) if error.filename else ScxError("The disk is full.", "Free some space.")
    if error.errno in (errno.EROFS, errno.EACCES, errno.ENAMETOOLONG) and error.filename:
        problem = f"{_short(path)} could not be written or read: {error.strerror}."
        return ScxError(problem, "Choose a place that you may use.")
    return None


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


_HALF = re.compile("[\ud800-\udfff]")


def is_portable(name: str) -> bool:
    """Whether Windows takes it for the name of a file or folder as Linux and macOS do: no device's name, with
    whatever ending and capitals ("con", "NUL.h5ad"), and no dot or space at its end, which Windows drops."""
    return name == name.rstrip(". ") and name.split(".")[0].rstrip(" ").lower() not in _DEVICES


def portable(name: str) -> str:
    """The name, less dots and spaces at its end, and with "_" behind its stem where that is a device's name:
    "con.h5ad" becomes "con_.h5ad"."""
    name = name.rstrip(". ")
    if is_portable(name):
        return name
    stem, dot, ending = name.partition(".")
    return f"{stem.rstrip(' ')}_{dot}{ending}"


def to_json_text(data: Any, *, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinities become null, NumPy values numbers and lists, paths text. Half a
    character, as broken names of files hold, is written as its number, which UTF-8 can hold."""
    text = json.dumps(_plain(data), indent=indent, ensure_ascii=False, allow_nan=False)
    return _HALF.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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
        return json.loads(Path(path).read_bytes())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ScxError(f"There is no file {path}.", "Check the path.") from error
    except OSError as error:
        problem = f"{_short(Path(path))} cannot be read ({error.strerror or error})."
        raise ScxError(problem, "Check the file and its permissions.") from error
    # A number of thousands of digits is a plain ValueError, as broken JSON and broken UTF-8 are.
    except (ValueError, RecursionError) as error:
        problem = f"{path} is not valid JSON ({str(error)[:120]})."
        raise ScxError(problem, "Restore it or make it anew.") from error


def check_object(record: Any, kinds: Mapping[str, Any], path: Path | str) -> dict[str, Any]:
    """A record that was read, as a JSON object whose known keys are what they should be; other keys may be
    anything. `kinds`: by key a type, several, the kinds of an object, or [the kinds of each of a list].

    Raises ScxError naming the file and the key.
    """
    return dict(_fitting(record, dict(kinds), Path(path), ""))


def _fitting(value: Any, kind: Any, path: Path, where: str) -> Any:
    if isinstance(kind, dict):
        if isinstance(value, dict):
            for key in kind.keys() & value.keys():
                _fitting(value[key], kind[key], path, f"{where}.{key}".lstrip("."))
            return value
        wanted = "an object"
    elif isinstance(kind, list):
        if isinstance(value, list):
            for place, one in enumerate(value):
                _fitting(one, kind[0], path, f"{where}[{place}]")
            return value
        wanted = "a list"
    else:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        plain = value.item() if hasattr(value, "item") else value  # of NumPy
        if isinstance(plain, kinds) and not isinstance(plain, bool) and not _is_huge(plain):
            return value
        wanted = " or ".join(_WORDS[one] for one in kinds)
    raise ScxError(
        f"{_short(path)}: {where or 'it'} is {repr(value)[:60]}, expected {wanted}.",
        "Restore the file, or make it anew.",
    )


def _is_huge(value: Any) -> bool:
    """A whole number that no float is: it could not be written with digits and commas."""
    return isinstance(value, int) and abs(value) > 2**53


_WORDS = {str: "a text", int: "a whole number of a usual size", float: "a number", type(None): "null"}


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
        explain(path, error)
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
        except (ValueError, RecursionError) as error:
            raise ScxError(f"Line {number} of {path} is not valid JSON.", "Remove that line.") from error
    return records


def is_folder(path: Path | str) -> bool:
    """Whether there is a folder; of what can be no name on this system, such as one too long, it says no."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path | str) -> bool:
    """Whether there is anything; of what can be no name on this system it says no."""
    return os.path.exists(path)  # noqa: PTH110


def check_inside(path: Path, folder: Path) -> None:
    """Raises ScxError for a link that leads out of the folder that it lies in: who gave the folder does not
    choose which other files are read. The blobs beside a snapshot of Hugging Face's cache belong to it."""
    if not os.path.islink(path):  # noqa: PTH114 (of a name that is too long it says no)
        return
    target, home = _resolved(path), folder.resolve()
    shared = [one.parent / "blobs" for one in (home, *home.parents) if one.name == "snapshots"]
    if not any(target.is_relative_to(one) for one in (home, *shared)):
        raise ScxError(
            f"{_short(path)} is a link that leads out of its folder; it is not followed.",
            "Copy the file that it leads to into the folder.",
        )


def check_links(folder: Path) -> None:
    """`check_inside` of all that lies in a folder and in the folders in it."""
    for entry in os.scandir(folder):
        check_inside(Path(entry.path), folder)
        if entry.is_dir(follow_symlinks=False):
            for one in os.scandir(entry.path):
                check_inside(Path(one.path), folder)


def unpacked(path: Path, most: int) -> bytes:
    """The content of a file, unpacked where it is gzip. Raises ScxError when it is absent, damaged, or longer
    than `most` bytes: a small packed file can hold more than the memory."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            data = file.read(most + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ScxError(f"There is no file {path}.", "Check the path.") from error
    except (OSError, EOFError, zlib.error) as error:
        problem = f"{path.name} cannot be read ({str(error)[:120]})."
        raise ScxError(problem, "Download or write the file again.") from error
    if len(data) > most:
        problem = f"{path.name} has more than {most >> 20} MiB{' when it is unpacked' if packed else ''}."
        raise ScxError(problem, "Give the part of it that you need.")
    return data


def size_of(path: Path | str) -> int:
    """Bytes of a file, or of all files of a folder; 0 where there is nothing."""
    path = Path(path)
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


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
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256")
