"""What there is much of: jobs and events by the thousand, and disks that are full."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from sqlite3 import connect

import httpx
import psutil
import pytest
from starlette.types import Message, Receive, Scope, Send

from llm_installer.install.installer import install
from llm_installer.server.problems import Problem
from llm_installer.studio.bodies import UPLOADS, Slots, in_time
from llm_installer.studio.context import Studio
from llm_installer.studio.store import claims, cleaning, jobs
from llm_installer.studio.store.jobs import NewJob
from llm_installer.studio.store.tables import Job
from tests.studio.test_survival import House, house
from tests.tiers import minutes

__all__ = ["house"]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many MB; skips where that may not be done."""
    mounted = []

    def mount(megabytes: int) -> Path:
        place = tmp_path / f"disk-{megabytes}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("only root can mount a small disk")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    ("come", "slowest", "status"), [(1, 1.0, 408), (0, 1.0, 408), (8, math.inf, 408), (9, 1.0, 200)]
)
def test_a_body_that_no_longer_comes_gives_its_slot_back(come: int, slowest: float, status: int) -> None:
    """It has nine pieces, of which so many come."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    async def sent(slots: Slots) -> int:
        came = 0

        async def receive() -> Message:
            nonlocal came
            if came == come:
                await asyncio.Event().wait()
            came += 1
            return {"type": "http.request", "body": b"x", "more_body": came < 9}

        async def send(message: Message) -> None:
            return None

        scope = {"type": "http", "method": "POST", "headers": [(b"content-length", str(2 << 20).encode())]}
        try:
            await slots(scope, in_time(receive, 0.1, slowest), send)
        except Problem as problem:
            return problem.status
        return 200

    async def one_after_the_other() -> list[int]:
        slots = Slots(app)
        return [await sent(slots) for _ in range(UPLOADS + 1)]

    assert asyncio.run(one_after_the_other()) == [status] * (UPLOADS + 1)


@pytest.mark.slow
def test_an_upload_is_kept_on_the_disk_of_the_data_and_not_where_temporary_files_are(
    small_disk: Callable[[int], Path], house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TMPDIR is often in memory."""
    spool = small_disk(32)
    monkeypatch.setenv("TMPDIR", str(spool))
    studio = house("--no-worker")
    content = b"x" * (50 << 20)
    answer = studio.api.post("/v1/files", files={"file": ("x.jsonl", content)}, data={"purpose": "fine-tune"})
    assert answer.status_code == 200 and answer.json()["bytes"] == len(content), answer.text
    assert sum(file.stat().st_size for file in spool.rglob("*") if file.is_file()) < 1 << 20
    studio.end()


@pytest.mark.slow
def test_a_full_disk_takes_no_upload_and_the_database_goes_on(
    small_disk: Callable[[int], Path], house: Callable[..., House], llm_home: Path
) -> None:
    """Of 300 MB 200 are kept back. What does not fit, beside its copy while it comes, leaves nothing behind."""
    llm_home.mkdir(parents=True)
    (llm_home / "studio").symlink_to(small_disk(300), target_is_directory=True)
    studio = house("--no-worker")
    free = shutil.disk_usage(llm_home / "studio").free
    assert 200 << 20 < free < 300 << 20
    statuses = []
    for size in (30 << 20, 100 << 20, 60 << 20, 500_000):
        file = {"file": ("x.jsonl", b"x" * size)}
        answer = studio.api.post("/v1/files", files=file, data={"purpose": "fine-tune"})
        statuses.append(answer.status_code)
    assert statuses[:3] == [200, 507, 507] and statuses[3] == 200, statuses
    job = studio.api.post(
        "/api/jobs", json={"model": "tiny", "file_id": studio.api.get("/v1/files").json()["data"][0]["id"]}
    ).json()["job_id"]
    claimed = studio.api.post("/api/workers/claim", json={"worker": "w"}).json()
    assert claimed["id"] == job
    digest, piece = "0" * 64, b"x" * (4 << 20)
    offset, status = 0, 200
    while status == 200 and offset < 200 << 20:
        status = studio.api.put(
            f"/blobs/{digest}", params={"offset": offset, "total": 400 << 20}, content=piece
        ).status_code
        offset += len(piece) if status == 200 else 0
    assert status == 507 and shutil.disk_usage(llm_home / "studio").free > 195 << 20
    report = {
        "attempt": 1,
        "state": "training",
        "progress": 50,
        "events": [{"type": "message", "data": {"text": "on"}}],
    }
    assert studio.api.post(f"/api/workers/jobs/{job}/report", json=report).status_code == 200
    given_back = studio.api.post(f"/api/workers/jobs/{job}/give-back", json={"attempt": 1, "why": "full"})
    assert given_back.json()["state"] == "resumable"
    assert list((llm_home / "studio" / "spool").iterdir()) == []
    studio.end()


@pytest.mark.slow
def test_what_does_not_say_how_long_it_is_fills_no_disk_either(
    small_disk: Callable[[int], Path], house: Callable[..., House], llm_home: Path
) -> None:
    """Where others have filled it, all that would write says so, and nothing is left running."""
    llm_home.mkdir(parents=True)
    install("tiny", say=lambda text: None)
    disk = small_disk(300)
    (llm_home / "studio").symlink_to(disk, target_is_directory=True)
    studio = house("--no-worker")

    def pieces(megabytes: int) -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
        for _ in range(megabytes):
            yield b"x" * (1 << 20)
        yield b"\r\n--b--\r\n"

    def sent(path: str, megabytes: int) -> int:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        with suppress(httpx.TransportError):  # it may hang up before it has read all of it
            return studio.api.post(path, content=pieces(megabytes), headers=headers).status_code
        return 507

    first = studio.api.post("/v1/files", files={"file": ("x.jsonl", b'{"prompt": "a", "answer": "b"}\n')}).json()["id"]
    job = studio.api.post("/api/jobs", json={"model": "tiny", "file_id": first}).json()["job_id"]
    assert studio.api.post(f"/api/jobs/{job}/colab").status_code == 200
    for path, sizes in (("/new", (120, 60)), ("/v1/files", (120, 60)), (f"/api/jobs/{job}/result", (120,))):
        assert [sent(path, size) for size in sizes] == [507] * len(sizes), path
        assert shutil.disk_usage(disk).free > 195 << 20
    assert list((disk / "spool").iterdir()) == []
    with suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
        while rest.write(b"x" * 4096):
            pass
    asked = [("POST", "/api/jobs", {"json": {"model": "tiny", "file_id": first}}), ("POST", "/chat/tiny/start", {}),
             ("POST", "/new", {"data": {"text": "a,b"}}), ("POST", "/models/install", {"data": {"model": "a/b"}}),
             ("GET", f"/api/jobs/{job}/notebook", {})]  # fmt: skip
    found = {path: studio.api.request(method, path, **more).status_code for method, path, more in asked}
    assert set(found.values()) == {507}, found
    below = psutil.Process(studio.process.pid).children(recursive=True)
    assert [one for one in below if {"serve", "install"} & set(one.cmdline())] == []
    (disk / "rest").unlink()
    assert studio.api.post("/api/jobs", json={"model": "tiny", "file_id": first}).status_code == 201
    studio.end()


@minutes
@pytest.mark.slow
def test_ten_thousand_jobs_and_a_million_events(
    studio: Studio, api: httpx.Client, make_job: Callable[..., str], hand_in: Callable[..., dict[str, object]]
) -> None:
    """One job has 100,000 of them: lists and pages stay quick, and a deletion lets others write meanwhile."""
    first = make_job()
    assert claims.claim(studio.store, claims.Claim("w"))
    hand_in(first, 1)
    with closing(connect(studio.folder / "studio.sqlite3")) as base:
        columns = [row[1] for row in base.execute("PRAGMA table_info(jobs)")]
        names = ", ".join(columns)
        values = ", ".join({"id": "printf('%08x-0000-0000-0000-000000000000', n)"}.get(one, one) for one in columns)
        numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {}) "
        base.execute(
            numbers.format(9999) + f"INSERT INTO jobs ({names}) SELECT {values} FROM c, jobs WHERE id = ?", [first]
        )
        metric = json.dumps({"kind": "step", "step": 1, "loss": 1.5})
        base.execute(
            numbers.format(1_000_000) + "INSERT INTO events (job_id, at, level, type, data) SELECT CASE WHEN n % 10 "
            "THEN printf('%08x-0000-0000-0000-000000000000', n % 9999 + 1) ELSE ? END, '2026-11-27 10:00:00', "
            "'info', 'metrics', ? FROM c",
            [first, metric],
        )
        base.commit()

    def took(path: str) -> float:
        """Seconds of a processor, the server's and the client's: this machine does other things."""
        times = []
        for _ in range(3):
            began = time.process_time()
            assert api.get(path).status_code == 200
            times.append(time.process_time() - began)
        return min(times)

    other = "00000063-0000-0000-0000-000000000000"
    figures = {
        path: took(path)
        for path in ("/api/jobs", f"/api/jobs?after={other}", f"/api/train/status/{first}", f"/api/jobs/{first}/log",
                     f"/runs/{other}", f"/runs/{first}", "/runs", "/v1/fine_tuning/jobs")
    }  # fmt: skip
    slow = {path: seconds for path, seconds in figures.items() if seconds > (0.3 if path.startswith("/runs") else 0.1)}
    assert slow == {}, figures
    longest = [0.0]
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            jobs.create(studio.store, NewJob("tiny", None))
            longest[0] = max(longest[0], time.perf_counter() - began)

    writer = threading.Thread(target=write)
    writer.start()
    cleaning.delete_job(studio.store, first)
    ended.set()
    writer.join()
    assert longest[0] < 2.0, "others wait for a batch, and not for all"
    with studio.store.reading() as session:
        assert session.get(Job, first) is None
