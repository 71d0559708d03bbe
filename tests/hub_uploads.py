"""What the loopback hub does with uploads: repositories, large files by git-lfs, complete commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.loopback_hub import Hub

Answer = tuple[int, dict[str, str], bytes]
LARGE = (".safetensors", ".bin", ".onnx", ".gguf", ".h5", ".msgpack")


@dataclass
class Uploads:
    """What was uploaded, and what is done wrong on purpose."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    """Large files by their sha256."""
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    chunk: int = 0
    """Bytes of a part of a large file; 0 for all of it at once."""
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Status, X-Error-Code and X-Error-Message by step: create, yaml, preupload, batch, put, commit."""
    cut: dict[str, int] = field(default_factory=dict)
    """How often the connection is cut in a step, by step."""
    lose: tuple[str, ...] = ()
    """Files that get other content in a commit."""
    slow: float = 0.0
    """Seconds before each answer."""
    commits: int = 0


def is_large(name: str) -> bool:
    return name.endswith(LARGE)


def answer_upload(hub: Hub, method: str, path: str, body: bytes) -> Answer | None:
    """What the hub answers; None where it cuts the connection."""
    where, up = path.partition("?")[0], hub.uploads
    time.sleep(up.slow)
    step, name, rest = _step(method, where)
    if up.cut.get(step, 0) > 0:
        up.cut[step] -= 1
        return None
    if step in up.refuse:
        status, code, message = up.refuse[step]
        return status, {"X-Error-Code": code, "X-Error-Message": message}, json.dumps({"error": message}).encode()
    found = STEPS[step](hub, name, rest, body)
    return found if isinstance(found, tuple) else (200, {}, json.dumps(found).encode())


def _step(method: str, path: str) -> tuple[str, str, str]:
    """(step, repository, what else the path says)."""
    rows = (
        ("create", r"/api/repos/create()()"),
        ("yaml", r"/api/validate-yaml()()"),
        ("preupload", r"/api/models/(.+)/preupload/(.+)"),
        ("commit", r"/api/models/(.+)/commit/(.+)"),
        ("batch", r"/(.+)\.git/info/lfs/objects/batch()"),
        ("put", r"/lfs/(.+)/(\w{64}(?:/\d+)?)"),
    )
    step, found = next((step, m) for step, row in rows if (m := re.fullmatch(row, path)))
    return ("complete" if step == "put" and method == "POST" else step), found[1], found[2]


def _create(hub: Hub, name: str, rest: str, body: bytes) -> Any:
    from tests.loopback_hub import Repo

    asked = json.loads(body)
    full = f"{asked['organization'] or 'anna'}/{asked['name']}"
    answer = json.dumps({"url": f"{hub.url}/{full}"}).encode()
    if full in hub.repos:
        return 409, {}, answer
    hub.repos[full] = Repo({".gitattributes": b"*.safetensors lfs"}, private=asked.get("visibility") == "private")
    return 200, {}, answer


def _preupload(hub: Hub, name: str, rest: str, body: bytes) -> Any:
    files = hub.repos[name].files
    return {
        "files": [
            {
                "path": (path := file["path"]),
                "uploadMode": "lfs" if is_large(path) else "regular",
                "shouldIgnore": False,
                "oid": _oid(path, files[path]) if path in files else None,
            }
            for file in json.loads(body)["files"]
        ]
    }


def _oid(path: str, data: bytes) -> str:
    if is_large(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _batch(hub: Hub, name: str, rest: str, body: bytes) -> Any:
    return {"transfer": "basic", "objects": [_upload_of(hub, name, one) for one in json.loads(body)["objects"]]}


def _upload_of(hub: Hub, name: str, one: dict[str, Any]) -> dict[str, Any]:
    if one["oid"] in hub.uploads.blobs:
        return one
    upload: dict[str, Any] = {"href": f"{hub.url}/lfs/{name}/{one['oid']}"}
    if chunk := hub.uploads.chunk:
        count = -(-one["size"] // chunk)
        upload["header"] = {"chunk_size": str(chunk)} | {
            f"{i:05d}": f"{upload['href']}/{i}" for i in range(1, count + 1)
        }
    return one | {"actions": {"upload": upload}}


def _put(hub: Hub, name: str, rest: str, body: bytes) -> Any:
    oid, _, part = rest.partition("/")
    if part:
        hub.uploads.parts.setdefault(oid, {})[int(part)] = body
    elif hashlib.sha256(body).hexdigest() == oid:
        hub.uploads.blobs[oid] = body
    else:
        return 400, {}, b"{}"
    return 200, {"ETag": f"part-{part}"}, b""


def _complete(hub: Hub, name: str, rest: str, body: bytes) -> Any:
    parts = hub.uploads.parts.pop(rest)
    hub.uploads.blobs[rest] = b"".join(parts[i] for i in sorted(parts))
    return {}


def _commit(hub: Hub, name: str, rest: str, body: bytes) -> Any:
    repo, up = hub.repos[name], hub.uploads
    lines = [json.loads(line) for line in body.splitlines()]
    if lines[0]["value"].get("parentCommit", repo.commit) != repo.commit:
        return 412, {"X-Error-Message": "A commit has happened since. Please refresh and try again."}, b"{}"
    files = dict(repo.files)
    for line in lines[1:]:
        value = line["value"]
        path = value["path"]
        if line["key"] == "file":
            files[path] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[path] = up.blobs[value["oid"]]
        else:
            del files[path]
        if path in up.lose:
            files[path] = files[path][:-1] + b"?"
    up.commits += 1
    repo.files, repo.commit = files, hashlib.sha1(b"%d" % up.commits, usedforsecurity=False).hexdigest()
    return {"commitUrl": f"{hub.url}/{name}/commit/{repo.commit}", "commitOid": repo.commit}


STEPS = {
    "create": _create,
    "yaml": lambda hub, name, rest, body: {},
    "preupload": _preupload,
    "batch": _batch,
    "put": _put,
    "complete": _complete,
    "commit": _commit,
}
