"""A checkpoint of the Hugging Face hub: whether it is on this computer, and the download, with words for what
can stand in its way.

What is here already is used as it is, without a question to the hub: the same name gives the same model until
somebody fetches it anew (`hf download`), and an analysis sends nothing.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scx_core.errors import ScxError
from scx_core.runs.files import is_there, read_json
from scx_core.runs.progress import Progress, silent

FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.txt", "*.jinja")
SUBFOLDERS = "*/*"  # other formats of the same weights
INDEX, SHARD = "model.safetensors.index.json", re.compile(r"-\d+-of-\d+\.safetensors")
_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
MEGABYTE, ROOM = 1_000_000, 1.05  # room on the disk, as a multiple of what is fetched


def is_hub_id(source: str) -> bool:
    """Whether this can only be the name of a checkpoint on the hub (`owner/name`), and is no path here."""
    return bool(_ID.fullmatch(source)) and not is_there(source)


def is_id(source: str) -> bool:
    """Whether the hub could have a checkpoint of this name; old ones have no owner."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def checkpoint_folder(hub_id: str) -> Path | None:
    """Where a checkpoint lies whole on this computer, None where it does not. Asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, "config.json")
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder is not None and _whole(folder) else None


def _whole(folder: Path) -> bool:
    """Whether all weights are there: those of the index, else a single file."""
    weights = {path.name for path in folder.glob("*.safetensors") if path.exists()}
    if (folder / INDEX).exists():
        return set(read_json(folder / INDEX).get("weight_map", {}).values()) <= weights
    return bool(weights) and not any(SHARD.search(name) for name in weights)


def fetch(hub_id: str, progress: Progress = silent, files: Sequence[str] = FILES) -> Path:
    """Download what a model is loaded from; files that are here, or half here, are not fetched again.

    Args:
        hub_id: `owner/name`.
        progress: Told megabytes done and in all.
        files: Patterns of the files.

    Returns:
        The folder in the hub's cache (HF_HOME).

    Raises:
        ScxError: The checkpoint does not exist, is gated or private, the hub cannot be reached or may not be
            asked, the disk is too full, or there are no safetensors in it.
    """
    from huggingface_hub import constants, errors, snapshot_download

    of_network: type[Exception] = getattr(errors, "HTTPError", OSError)  # its client's
    wanted: dict[str, Any] = {"allow_patterns": list(files), "ignore_patterns": [SUBFOLDERS]}
    bytes_done = _Bytes(progress)
    try:
        found = snapshot_download(hub_id, dry_run=True, tqdm_class=_bars(_Bytes(silent)), **wanted)
        missing = sum(one.file_size or 0 for one in found if one.will_download)
        bytes_done.total = sum(one.file_size or 0 for one in found)
        if "*.safetensors" in files and not any(one.filename.endswith(".safetensors") for one in found):
            raise ScxError(f"{hub_id} holds no .safetensors weights.", "Only safetensors are loaded.")
        _check_room(Path(constants.HF_HUB_CACHE), missing)
        bytes_done.add(bytes_done.total - missing)
        folder = Path(snapshot_download(hub_id, tqdm_class=_bars(bytes_done), **wanted))
    except ScxError:
        raise
    except (OSError, ValueError, of_network) as error:
        raise in_words(hub_id, error) from error
    bytes_done.add(bytes_done.total - bytes_done.done)  # two files of one content arrive once
    return folder


def _check_room(cache: Path, missing: int) -> None:
    """Raise ScxError where the disk has no room for so many bytes."""
    there = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < missing * ROOM:
        raise ScxError(
            f"{missing / MEGABYTE:,.0f} MB are to be fetched, and the disk of {there} has "
            f"{free / MEGABYTE:,.0f} MB left.",
            "Free some, or let HF_HOME name a folder on another disk.",
        )


def in_words(hub_id: str, error: Exception) -> ScxError:
    """What stands in the way of a download, and how to go on."""
    from huggingface_hub import errors

    known, cause = error, error.__cause__
    if not isinstance(error, errors.HfHubHTTPError) and isinstance(cause, Exception):
        known = cause  # what the hub answered; the error itself says only that nothing is here
    if isinstance(known, errors.GatedRepoError):
        return ScxError(
            f"{hub_id} is gated: its owners let in accounts that accepted their terms, and none is signed in "
            "here that did.",
            f"Accept them on https://huggingface.co/{hub_id}, then call `hf auth login` on the computer that "
            "runs scX (or set HF_TOKEN there).",
        )
    if isinstance(known, errors.RepositoryNotFoundError):
        return ScxError(
            f"The hub has no checkpoint {hub_id}, or it is private.",
            "Check the spelling (owner/name); for a private one call `hf auth login` first.",
        )
    if isinstance(known, errors.HFValidationError):
        return ScxError(f"{hub_id!r} is neither a folder nor a hub id.", "Give a folder, or owner/name.")
    by_hand = (
        f"Where there is a network: `hf download {hub_id} --local-dir FOLDER`; bring the folder here and "
        "give its path."
    )
    if isinstance(known, errors.OfflineModeIsEnabled):
        return ScxError(
            f"{hub_id} is not on this computer, and HF_HUB_OFFLINE=1 forbids to ask the hub.", by_hand
        )
    if isinstance(known, errors.HfHubHTTPError):
        said = str(known).strip().splitlines()[0]
        return ScxError(f"The hub refused {hub_id}: {said[:200]}", f"Try again later. {by_hand}")
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        raise error  # a full disk, a folder that may not be written: said as everywhere
    return ScxError(f"{hub_id} is not on this computer, and the hub cannot be reached from here.", by_hand)


class _Bytes:
    """Bytes that have arrived, over all files and threads."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.done, self.total = progress, 0.0, 0
        self._lock = threading.Lock()

    def add(self, count: float) -> None:
        """Count and tell."""
        with self._lock:
            self.done += count
            whole = max(1, round(self.total / MEGABYTE))
            done = whole if self.done >= self.total else min(whole, int(self.done / MEGABYTE))
            self.progress(done, whole, f"{whole:,} MB from the hub")


def _bars(counter: _Bytes) -> type:
    """The class of a bar that is not drawn: the one of bytes on the disk tells the counter."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            # One bar counts bytes of the network, which are fewer where they come packed, one files.
            self.counts = options.get("unit") == "B" and "Reconstructing" in str(options.get("desc"))
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if self.counts and n:
                counter.add(n)
            return None

    return Bar
