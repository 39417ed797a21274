"""A folder is sent through huggingface_hub's own client to a local server that speaks the Hub's interface."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from arena_jax.config.errors import ArenaError
from arena_jax.models.huggingface.push import push_folder


class StandIn(BaseHTTPRequestHandler):
    """What the client asks of the Hub to make a repository and to commit small files into it."""

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        hub = self.server.hub
        if hub["forbidden"]:
            return self.answer({"error": "You may not look here"}, 403)
        return self.answer({"id": "me/tiny", "private": hub["private"], "siblings": [], "sha": "0" * 40, "tags": []})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub = self.server.hub
        hub["tokens"].add(self.headers.get("Authorization"))
        if hub["forbidden"]:
            return self.answer({"error": "You may not write here"}, 403)
        if self.path == "/api/repos/create":
            request = json.loads(body)
            hub["created"].append(request)
            if hub["private"] is None:  # not there yet
                hub["private"] = request.get("private", request.get("visibility") == "private")
            return self.answer({"url": f"http://{self.headers['Host']}/me/tiny", "id": "me/tiny"})
        if self.path.endswith("/preupload/main"):
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self.answer({"files": [{k: f[k] for k in ("path", "uploadMode", "shouldIgnore")} for f in files]})
        if self.path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    hub["files"][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            address = f"http://{self.headers['Host']}/me/tiny/commit/{'1' * 40}"
            return self.answer({"success": True, "commitOid": "1" * 40, "commitUrl": address, "hookOutput": ""})
        return self.answer({"errors": [], "warnings": []})  # of the card's first lines

    def log_message(self, format, *arguments):
        """Say nothing."""


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.hub = {"private": None, "created": [], "files": {}, "tokens": set(), "forbidden": False}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def push(hub, folder, *, public=False):
    """In a process of its own: the client reads its variables when it is imported."""
    code = (
        "import sys; from arena_jax.config.errors import ArenaError\n"
        "from arena_jax.models.huggingface.push import push_folder\n"
        "try: print(push_folder(sys.argv[1], 'me/tiny', public=sys.argv[2] == 'True'))\n"
        "except ArenaError as error: print('refused:', error)"
    )
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_TOKEN": "hf_of_a_test",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "*",
    }
    command = [sys.executable, "-c", code, str(folder), str(public)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)))
    (tmp_path / "README.md").write_text("---\ntags:\n- jax\n---\n# tiny\n")
    return tmp_path


def test_a_folder_arrives_whole_in_a_private_repository(hub, folder):
    answer = push(hub, folder)
    assert answer.strip() == f"http://127.0.0.1:{hub.server_port}/me/tiny/commit/{'1' * 40}"
    assert hub.hub["files"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.hub["private"] is True
    assert hub.hub["tokens"] == {"Bearer hf_of_a_test"}


def test_nothing_is_sent_to_a_public_repository_unless_it_is_asked_for(hub, folder):
    hub.hub["private"] = False
    assert "refused: 'me/tiny' is there and public, and nothing was sent: give --public" in push(hub, folder)
    assert hub.hub["files"] == {}
    push(hub, folder, public=True)
    assert set(hub.hub["files"]) == {path.name for path in folder.iterdir()}


def test_a_refusal_is_one_line(hub, folder):
    hub.hub["forbidden"] = True
    answer = push(hub, folder)
    assert answer.count("\n") == 1
    assert "cannot push to 'me/tiny': 403, You may not" in answer
    assert "`hf auth login` with a token that may write" in answer
    for name in ("tiny", "a/b/c", "me/ti ny", "https://me/tiny"):
        with pytest.raises(ArenaError, match="write OWNER/NAME"):
            push_folder(folder, name)
