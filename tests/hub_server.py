"""A small hub on loopback, for the real client: repositories in memory, and the faults that networks have."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What the server serves.

    Attributes:
        files: For each repository its files.
        refuse: For each repository a status that answers all requests about it, and the hub's code for the reason.
        cut: Names of files whose download breaks off half-way, so many times.
        spoil: Names of files that come with one byte wrong.
        stored: Large files that were uploaded, by their hashes, whether or not a commit names them.
        breaks: How many uploads of large files are answered by a fault of the server first.
        requests: Paths asked for.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    spoil: set[str] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)
    breaks: int = 0
    requests: list[str] = field(default_factory=list)

    def __enter__(self):
        hub = self

        class Handler(_Handler):
            state = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"


def is_large(name):
    return name.endswith((".safetensors", ".h5"))


def etag(name, data):
    return hashlib.sha256(data).hexdigest() if is_large(name) else hashlib.sha1(data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    state: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def do_POST(self):
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append(f"POST {path}")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.state.refuse:
                return self._send(self.state.refuse[name][0], b'{"error": "refused"}', True, {})
            self.state.files.setdefault(name, {})
            return self._json({"url": f"{self.state.endpoint}/{name}"}, True)
        if path.endswith("/info/lfs/objects/batch"):
            objects = [self._wanted(one) for one in json.loads(content)["objects"]]
            return self._json({"transfer": "basic", "objects": objects}, True)
        repository = "/".join(parts[2:4])
        files = self.state.files[repository]
        if parts[4] == "preupload":
            paths = [one["path"] for one in json.loads(content)["files"]]
            modes = {path: "lfs" if is_large(path) else "regular" for path in paths}
            found = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            return self._json({"files": found}, True)
        assert parts[4] == "commit"
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.state.stored[value["oid"]]
        url = f"{self.state.endpoint}/{repository}/commit/{COMMIT}"
        return self._json({"commitUrl": url, "commitOid": COMMIT}, True)

    def do_PUT(self):
        self.state.requests.append(f"PUT {self.path}")
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.state.breaks > 0:
            self.state.breaks -= 1
            return self._send(400, b"broken", True, {})
        self.state.stored[self.path.rsplit("/", 1)[-1]] = data
        return self._send(200, b"", True, {})

    def _wanted(self, one):
        """What the client is to do about a large file: nothing, where it is stored already."""
        found = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] in self.state.stored:
            return found
        return found | {"actions": {"upload": {"href": f"{self.state.endpoint}/store/{one['oid']}", "header": {}}}}

    def _answer(self, body):
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if api else parts[:2])
        if repository in self.state.refuse:
            status, code = self.state.refuse[repository]
            return self._send(status, b'{"error": "refused"}', body, {"X-Error-Code": code} if code else {})
        files = self.state.files.get(repository)
        if files is None:
            return self._send(404, b'{"error": "none"}', body, {"X-Error-Code": "RepoNotFound"})
        kind, revision = (parts[4], parts[5]) if api else (parts[2], parts[3])
        if revision not in ("main", COMMIT):
            return self._send(404, b'{"error": "none"}', body, {"X-Error-Code": "RevisionNotFound"})
        if kind == "revision":
            found = {"id": repository, "modelId": repository, "sha": COMMIT, "private": False, "tags": []}
            return self._json(found | {"siblings": [{"rfilename": name} for name in files]}, body)
        if kind == "tree":
            return self._json([self._entry(name, data) for name, data in files.items()], body)
        return self._file("/".join(parts[4:]), files, body)

    def _entry(self, name, data):
        entry = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if is_large(name):
            entry["lfs"] = {"oid": etag(name, data), "sha256": etag(name, data), "size": len(data), "pointerSize": 130}
        return entry

    def _file(self, name, files, body):
        if name not in files:
            return self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        data = files[name]
        headers = {"ETag": f'"{etag(name, data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if name in self.state.spoil:
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if body and self.state.cut.get(name, 0) > 0:
            self.state.cut[name] -= 1
            self._head(206 if asked else 200, len(data) - start, headers)
            self.wfile.write(data[start : (start + len(data)) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return None
        return self._send(206 if asked else 200, data[start:], body, headers)

    def _json(self, content, body):
        self._send(200, json.dumps(content).encode(), body, {"Content-Type": "application/json"})

    def _send(self, status, data, body, headers):
        self._head(status, len(data), headers)
        if body:
            self.wfile.write(data)

    def _head(self, status, length, headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def running(monkeypatch, cache, files):
    """Runs a hub and points the client at it: what HF_ENDPOINT does before the client is imported."""
    from huggingface_hub import constants

    with FakeHub(files) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # another protocol, with servers of its own
        yield server
