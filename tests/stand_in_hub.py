"""A local stand-in for the Hub that serves folders as repositories, as far as huggingface_hub needs."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "c0ffee" + "0" * 34


@contextmanager
def stand_in_hub(root):
    """Serves ``root/organization/model``; yields its address and the list of requested paths.

    ``organization/gated`` has terms that have not been accepted. ``Authorization`` headers are recorded.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(body=True)

        def do_HEAD(self):
            self.answer(body=False)

        def answer(self, body):
            path = unquote(urlparse(self.path).path).strip("/")
            asked.append((path, self.headers.get("Authorization")))
            status, content, headers = look_up(Path(root), path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def look_up(root, path):
    """Status, content and headers for a path."""
    if path.startswith("api/models/"):
        organization, model, what, revision = [*path.removeprefix("api/models/").split("/"), "", ""][:4]
        return _about(root, f"{organization}/{model}", what, revision or "main")
    name, _, rest = path.partition("/resolve/")
    revision, _, file = rest.partition("/")
    if (error := _missing(root, name, revision)) is not None:
        return error
    if not (root / name / file).is_file():
        return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "no such file"}
    content = (root / name / file).read_bytes()
    return 200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}


def _about(root, name, what, revision):
    if (error := _missing(root, name, revision)) is not None:
        return error
    files = sorted(path for path in (root / name).rglob("*") if path.is_file())
    names = [(str(path.relative_to(root / name)), path) for path in files]
    if what == "tree":
        listed = [
            {
                "type": "file",
                "path": file,
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for file, path in names
        ]
        return 200, json.dumps(listed).encode(), {"Content-Type": "application/json"}
    about = {
        "id": name,
        "modelId": name,
        "sha": COMMIT,
        "private": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
    }
    about["siblings"] = [{"rfilename": file} for file, _ in names]
    return 200, json.dumps(about).encode(), {"Content-Type": "application/json"}


def _missing(root, name, revision):
    if name.endswith("/gated"):
        return 403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "terms"}
    if not (root / name).is_dir():
        return 404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such repository"}
    if revision not in ("main", "v1", COMMIT):
        return 404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no such revision"}
    return None
