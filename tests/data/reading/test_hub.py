"""Datasets of the hub, against a small hub on the loopback interface; each question in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SHA = "a" * 40
CONFIGS = b"""---
configs:
- config_name: main
  data_files: [{split: train, path: main.jsonl}]
- config_name: other
  data_files: [{split: train, path: other.jsonl}, {split: test, path: main.jsonl}]
---
"""
REPOS = {
    "org/qa": {"train.jsonl": b'{"q":"a","n":null}\n{"q":"b","n":1}\n', "test.jsonl": b'{"q":"c","n":2}\n'},
    "org/many": {"README.md": CONFIGS, "main.jsonl": b'{"q":"m"}\n', "other.jsonl": b'{"q":"o"}\n'},
    "org/empty": {"notes.bin": b"x"},
}
MOVED = {"qa": "org/qa"}
"""Short names of old datasets: their page leads to the one that they have now, and nothing else is there."""
SCRIPT = """
import json, sys
from pathlib import Path
from llm_installer.core.errors import DataError
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.sources import find_sources
for data in sys.argv[1:]:
    try:
        sources, notes = find_sources(data, Path.cwd())
        rows = [(row.value, str(row.origin), row.part) for source in sources for row in read_rows(source)]
        print(json.dumps({"rows": rows, "notes": notes}))
    except DataError as error:
        print(json.dumps({"error": str(error)}))
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as downloading a public dataset takes."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0].removeprefix("/api").removeprefix("/datasets/")
        repo = "/".join(path.split("/")[:2])
        if repo in MOVED:
            return self._answer(307, Location=f"/api/datasets/{MOVED[repo]}")
        files = REPOS.get(repo)
        if files is None:
            return self._answer(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        rest = path.removeprefix(repo).strip("/")
        if rest.startswith("resolve/"):
            body = files.get(path.rsplit("/", 1)[1])
            if body is None:
                return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=SHA)
            return self._answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=SHA)
        if rest.startswith("tree/"):
            if rest.removeprefix("tree/").count("/"):
                return self._answer(404, X_Error_Code="EntryNotFound")
            listing: object = [
                {"type": "file", "oid": hashlib.sha1(body).hexdigest(), "size": len(body), "path": name}
                for name, body in files.items()
            ]
        else:
            flags = {"private": False, "disabled": False, "gated": False, "downloads": 0, "likes": 0, "tags": []}
            listing = {"id": repo, "sha": SHA, "siblings": [{"rfilename": name} for name in files], **flags}
        return self._answer(200, json.dumps(listing).encode(), Content_Type="application/json")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
        files = REPOS["/".join(self.path.split("/")[3:5])]
        found = [
            {"type": "file", "oid": hashlib.sha1(files[name]).hexdigest(), "size": len(files[name]), "path": name}
            for name in wanted
            if name in files
        ]
        self._answer(200, json.dumps(found).encode(), Content_Type="application/json")

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The test's output is no place for a server's log."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(folder: Path, *data: str, **environment: str) -> list[dict[str, object]]:
    (folder / "cwd").mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    kept |= {"HF_HOME": str(folder / "hf"), "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    command = [sys.executable, "-c", SCRIPT, *data]
    done = subprocess.run(command, cwd=folder / "cwd", env=kept, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


TRAIN = [
    [{"q": "a", "n": None}, "org/qa:train record 1", "train"],
    [{"q": "b", "n": 1}, "org/qa:train record 2", "train"],
]
TEST = [{"q": "c", "n": 2}, "org/qa:test record 1", "validation"]


def test_the_hub(tmp_path: Path, endpoint: str) -> None:
    answers = ask(
        tmp_path,
        *("org/qa", "org/qa:train", "org/qa:test,org/qa:train", "org/qa:dev", "org/many", "org/many:main"),
        *("org/many:other:test", "org/many:third:train", "org/nothing", "org/empty", "word", "qa:train"),
        HF_ENDPOINT=endpoint,
    )
    whole, train, both, no_split, no_config, config, config_split, wrong, nothing, empty, word, short = answers
    assert whole == {"rows": [TEST, *TRAIN], "notes": []}
    assert train["rows"] == [[value, origin, ""] for value, origin, _ in TRAIN]
    assert both["rows"] == [[value, origin, ""] for value, origin, _ in [TEST, *TRAIN]]
    assert no_split["error"] == (
        "org/qa has no split named dev; name one that it has, as in org/qa:train (there are train, test)"
    )
    assert no_config["error"] == ("org/many has several configurations (main, other); name one, as in org/many:main")
    assert config["rows"] == [[{"q": "m"}, "org/many:main:train record 1", ""]]
    assert config_split["rows"] == [[{"q": "m"}, "org/many:other:test record 1", ""]]
    assert "has several configurations (main, other)" in str(wrong["error"])
    assert "org/nothing does not exist" in str(nothing["error"])
    assert "the hub has no dataset of that name" in str(nothing["error"])
    assert "the hub or its data failed" in str(empty["error"])
    assert "There is no word in" in str(word["error"])
    assert "the hub has no dataset of that name" in str(word["error"])

    assert short == train, "by the id that the hub answers with"

    cached, cached_short = ask(tmp_path, "org/qa", "qa:train", HF_HUB_OFFLINE="1")
    assert (cached, cached_short) == (whole, train)


def test_no_hub(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as closed:
        endpoint = f"http://127.0.0.1:{closed.server_port}"
    [unreachable] = ask(tmp_path, "org/qa", HF_ENDPOINT=endpoint)
    assert "the hub cannot be reached" in str(unreachable["error"])
    [offline] = ask(tmp_path, "org/qa", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE switches the hub off" in str(offline["error"])
