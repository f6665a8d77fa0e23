"""A Hugging Face Hub on this machine, for the unmodified clients: set HF_ENDPOINT to its `url`.

It serves data sets from memory, counts requests, and fails where a `Fault` says so.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + 34 * "0"
ROUTE = re.compile(
    r"(?:/api)?/datasets/(?P<dataset>[^/]+/[^/]+)"
    r"(?:/(?P<verb>revision|tree|paths-info|resolve)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?"
)


@dataclass
class Fault:
    """Changes `times` requests whose path contains `where`, after `after` normal answers.

    A `status` of 0 does not change the answer; `cut` breaks the connection after that many bytes of
    its body. `wait` is in seconds.
    """

    where: str
    status: int = 0
    times: float = float("inf")
    after: int = 0
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    wait: float = 0


class Hub:
    """Use it as a context manager. `requests` counts by "METHOD path", `sent` bytes by path."""

    def __init__(self) -> None:
        self.datasets: dict[str, dict[str, bytes]] = {}
        self.licences: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.requests: Counter = Counter()
        self.sent: Counter = Counter()
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def add(self, dataset: str, files: dict[str, bytes], licence: str | None = None) -> None:
        """A public data set whose branch main is at COMMIT."""
        self.datasets[dataset] = files
        self.licences[dataset] = licence

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each small answer takes 40 ms

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        form = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = Fault(path)
        with hub.lock:
            hub.requests[f"{self.command} {path}"] += 1
            for candidate in hub.faults:
                if candidate.where not in path or candidate.times <= 0:
                    continue
                if candidate.after > 0:
                    candidate.after -= 1
                    continue
                candidate.times -= 1
                fault = candidate
                break
        time.sleep(fault.wait)
        if fault.status:
            self.answer(fault.status, b"", fault.headers)
        else:
            self.route(path, form, fault.cut)

    do_HEAD = do_POST = do_GET

    def route(self, path: str, form: bytes, cut: int | None) -> None:
        hub = self.server.hub
        match = ROUTE.fullmatch(path)
        if not match or match["dataset"] not in hub.datasets:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        dataset, verb, path = match["dataset"], match["verb"], match["path"] or ""
        files = hub.datasets[dataset]
        if match["revision"] not in (None, "main", COMMIT):
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if verb == "resolve":
            if path not in files:
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return self.file(files[path], cut)
        if verb == "tree":
            content = _tree(files, path, "recursive=True" in self.path or "true" in self.path)
        elif verb == "paths-info":
            content = [_entry(name, files) for name in parse_qs(form.decode())["paths"]]
        else:
            content = {
                "id": dataset,
                "sha": COMMIT,
                "private": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "cardData": {"license": hub.licences[dataset]},
                "siblings": [{"rfilename": name} for name in files],
            }
        self.answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def file(self, content: bytes, cut: int | None) -> None:
        headers = {
            "ETag": f'"{_digest(content)}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.answer(200, content, headers, cut)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.answer(206, content[first : last + 1], headers, cut)

    def answer(self, status: int, body: bytes, headers: dict, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
            with self.server.hub.lock:
                self.server.hub.sent[unquote(urlsplit(self.path).path)] += len(body[:cut])
        if cut is not None:
            self.close_connection = True


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _entry(name: str, files: dict[str, bytes]) -> dict:
    if name in files:
        content = files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": _digest(content)}
    return {"type": "directory", "path": name, "size": 0, "oid": _digest(name.encode())}


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict]:
    prefix = f"{folder}/" if folder else ""
    below = [name.removeprefix(prefix) for name in files if name.startswith(prefix)]
    names = {name.split("/", 1)[0] for name in below}
    if recursive:
        parts = (name.split("/") for name in below)
        names |= {"/".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}
    return [_entry(prefix + name, files) for name in sorted(names)]
