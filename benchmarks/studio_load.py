"""How long the studio takes to say how a training stands while many pages ask and large files are uploaded.

Run as: python benchmarks/studio_load.py [--pages 200] [--every 5] [--uploads 10] [--seconds 30]

A studio is started as a user starts it, without its worker, on an empty folder. Each page asks for the status of a job
at moments of its own. Then the same with uploads, each by a client that waits and comes again where it is told to.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

MB = 1_000_000
THREADS = 16
"""That ask for all pages: one thread a page would measure its own switches."""


@dataclass
class Load:
    """What is asked of a studio."""

    pages: int = 200
    every: float = 5.0
    uploads: int = 10
    bytes: int = 10 * MB
    seconds: float = 30.0
    jobs: int = 50


@dataclass
class Found:
    """What came of it: seconds of every answer, statuses that were no 200, resident bytes at the end."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    late: float = 0.0
    """Most seconds that a question was asked after its time, by which one sees that the asker kept up."""
    meanwhile: list[float] = field(default_factory=list)
    """Seconds of those answers that were asked for while an upload was under way."""
    uploading: list[int] = field(default_factory=list)
    """One for each upload that is under way."""
    uploads: list[float] = field(default_factory=list)
    """Seconds of each upload, waiting for its turn included."""
    lost: int = 0
    """Uploads of which the studio has not every byte."""
    resident: int = 0

    def p(self, share: float) -> float:
        """Milliseconds below which so large a share of the answers took: of those beside uploads, where there were."""
        took = sorted(self.meanwhile or self.seconds)
        return 1000 * took[min(len(took) - 1, int(share * len(took)))]

    def line(self, name: str) -> str:
        """For the table."""
        up = f", {len(self.uploads)} uploads in {max(self.uploads):.1f} s, {self.lost} lost" if self.uploads else ""
        return (
            f"{name:<16} {len(self.meanwhile or self.seconds):5} answers, p50 {self.p(0.5):6.1f} ms, "
            f"p95 {self.p(0.95):6.1f} ms, most {self.p(1):6.1f} ms, {len(self.wrong)} wrong, "
            f"{self.resident / MB:.0f} MB{up}"
        )


@contextmanager
def studio(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A studio on an empty folder: (its address, its process)."""
    command = [sys.executable, "-u", "-m", "llm_installer", "studio", "--port", "0", "--no-worker"]
    with subprocess.Popen(
        command, env={**os.environ, "LLM_HOME": str(home)}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            address = process.stdout.readline().split()[-1]
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def asked(address: str, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
    """(status, body) of an answer, over a connection of its own."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)
    try:
        connection.request(method, path, body or None, {"content-type": kind} if kind else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def form(name: str, content: bytes, **fields: str) -> tuple[bytes, str]:
    """(body, content type) of a form with a file."""
    edge = "edge-of-this-form"
    parts = [
        f'--{edge}\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items()
    ]
    head = f'--{edge}\r\ncontent-disposition: form-data; name="{name}"; filename="rows.jsonl"\r\n\r\n'.encode()
    return b"".join([*parts, head, content, f"\r\n--{edge}--\r\n".encode()]), f"multipart/form-data; boundary={edge}"


def made(address: str, count: int) -> list[str]:
    """New jobs."""
    body, kind = form("dataset", b'{"prompt": "a", "answer": "b"}\n', model="tiny")
    return [json.loads(asked(address, "POST", "/api/train", body, kind)[1])["job_id"] for _ in range(count)]


def measured(address: str, process: psutil.Process, load: Load, uploads: int) -> Found:
    """Ask for as long as `load` says, and upload beside it."""
    found, jobs = Found(), made(address, load.jobs)
    ends = time.monotonic() + load.seconds
    for _ in range(uploads):
        found.uploading.append(1)
    threads = [
        threading.Thread(target=_ask, args=(address, found, jobs, load, load.pages // THREADS, ends))
        for _ in range(THREADS)
    ]
    contents = [random.Random(number).randbytes(load.bytes) for number in range(uploads)]
    threads += [threading.Thread(target=_upload, args=(address, found, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.resident = process.memory_info().rss
    return found


def _ask(address: str, found: Found, jobs: list[str], load: Load, pages: int, ends: float) -> None:
    """Of some pages, each at its own moments, over connections that stay open as a browser's do."""
    place, dice = urlsplit(address), random.Random()
    connections = [http.client.HTTPConnection(place.hostname or "", place.port, timeout=120) for _ in range(pages)]
    turns = [(time.monotonic() + dice.uniform(0, load.every), page) for page in range(pages)]
    heapq.heapify(turns)
    while turns and turns[0][0] < ends:
        due, page = heapq.heappop(turns)
        time.sleep(max(0.0, due - time.monotonic()))
        began, beside = time.monotonic(), bool(found.uploading)
        connections[page].request("GET", f"/api/train/status/{dice.choice(jobs)}")
        answer = connections[page].getresponse()
        answer.read()
        found.seconds.append(time.monotonic() - began)
        if beside:
            found.meanwhile.append(found.seconds[-1])
        found.late = max(found.late, began - due)
        if answer.status != 200:
            found.wrong.append(answer.status)
        heapq.heappush(turns, (due + load.every, page))
    for connection in connections:
        connection.close()


def _upload(address: str, found: Found, content: bytes) -> None:
    body, kind = form("file", content, purpose="fine-tune")
    began = time.monotonic()
    while True:
        try:
            status, said = asked(address, "POST", "/v1/files", body, kind)
        except OSError:  # the answer 503 came, and the connection was closed, before all was sent
            status, said = 503, b""
        if status != 503:
            break
        time.sleep(random.uniform(0.5, 1.5))
    found.uploads.append(time.monotonic() - began)
    found.uploading.pop()
    back = asked(address, "GET", f"/v1/files/{json.loads(said)['id']}/content")[1] if status == 200 else b""
    found.lost += hashlib.sha256(back).digest() != hashlib.sha256(content).digest()


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Load()
    parser.add_argument("--pages", type=int, default=usual.pages)
    parser.add_argument("--every", type=float, default=usual.every, help="seconds between two questions of a page")
    parser.add_argument("--uploads", type=int, default=usual.uploads)
    parser.add_argument("--seconds", type=float, default=usual.seconds)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="the rounds as one JSON object")
    given = parser.parse_args()
    load = Load(given.pages, given.every, given.uploads, seconds=given.seconds)
    with tempfile.TemporaryDirectory() as home, studio(Path(home)) as (address, process):
        rounds = []
        for _ in range(given.rounds):
            for name, uploads in (("polls alone", 0), ("beside uploads", load.uploads)):
                rounds.append((name, measured(address, process, load, uploads)))
                if not given.json:
                    print(rounds[-1][1].line(name), flush=True)
        if given.json:
            return print(json.dumps([{"name": name, "p95": one.p(0.95), **asdict(one)} for name, one in rounds]))
        for name in ("polls alone", "beside uploads"):
            print(f"{name}: median p95 {statistics.median(f.p(0.95) for n, f in rounds if n == name):.1f} ms")


if __name__ == "__main__":
    main()
