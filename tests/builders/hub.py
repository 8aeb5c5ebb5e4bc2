"""A hub of our own on this computer: what the Hugging Face client asks for, with one checkpoint."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

NAME, COMMIT = "lab/tiny-cells", "0123456789abcdef0123456789abcdef01234567"


class Hub(NamedTuple):
    """Its address, and what it was asked, as "METHOD path"."""

    address: str
    asked: list[str]


@contextmanager
def fake_hub(folder: Path, gated: bool = False) -> Iterator[Hub]:
    """Serve the files of `folder` as the checkpoint NAME; `gated`: its files are for nobody."""
    asked: list[str] = []
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def give(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            asked.append(f"{self.command} {path}")
            if path.startswith(f"/api/models/{NAME}/tree/"):
                rows = [
                    {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                    for name, body in files.items()
                ]
                self.give(200, json.dumps(rows).encode(), Content_Type="application/json")
            elif path.startswith(f"/api/models/{NAME}"):
                siblings = [{"rfilename": name} for name in files]
                info = {"id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": siblings, "gated": gated}
                self.give(200, json.dumps(info).encode(), Content_Type="application/json")
            elif path.startswith(f"/{NAME}/resolve/") and path.rpartition("/")[2] in files:
                body = files[path.rpartition("/")[2]]
                if gated:
                    self.give(403, X_Error_Code="GatedRepo", X_Error_Message="You are not in the list")
                    return
                etag = f'"{hashlib.sha1(body).hexdigest()}"'
                self.give(200, body, ETag=etag, X_Repo_Commit=COMMIT, Content_Length=str(len(body)))
            else:
                code = "EntryNotFound" if f"/{NAME}/" in path else "RepoNotFound"
                self.give(404 if code == "EntryNotFound" else 401, X_Error_Code=code)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(patch: pytest.MonkeyPatch, address: str, cache: Path, offline: bool = False) -> None:
    """Let the client of this process ask there, with a cache of its own."""
    constants = "huggingface_hub.constants"
    patch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
    patch.setattr(f"{constants}.HF_HUB_OFFLINE", offline)
    patch.setattr(f"{constants}.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
