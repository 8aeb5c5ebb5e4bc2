"""An uploaded file becomes a file on this computer: cells are read row by row from disk, not from memory."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import BinaryIO

from scx_core.runs.files import replace_atomic

CHUNK = 1 << 20
_LONGEST = 80


def keep_upload(name: str, content: BinaryIO, folder: Path) -> Path:
    """Write `content` to `folder/SHA256/NAME` and return that path; the same content is written once.

    `name` comes from a browser: only its last part counts, without characters that a shell, a file system or
    a page would read as more than a name. Raises ScxError when the disk is full.
    """
    digest = hashlib.sha256()
    content.seek(0)
    while chunk := content.read(CHUNK):
        digest.update(chunk)
    path = folder / digest.hexdigest()[:16] / upload_name(name)
    if not path.exists():
        replace_atomic(path, lambda temporary: _copy(content, temporary))
    return path


def upload_name(name: str) -> str:
    """A plain file name that keeps its endings, as the ending says what the file is."""
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^A-Za-z0-9._ -]+", "_", last).strip(". ")
    return plain[-_LONGEST:].lstrip(". -") or "upload"


def _copy(content: BinaryIO, target: Path) -> None:
    content.seek(0)
    with open(target, "wb") as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)
