"""The database, on SQLite and Postgres: jobs are created once, claimed once, and written by whoever has them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from llm_installer.studio import blobs
from llm_installer.studio.store import claims, cleaning, events, jobs, tokens
from llm_installer.studio.store.claims import Claim, Report
from llm_installer.studio.store.events import NewEvent
from llm_installer.studio.store.jobs import NewJob, Wanted
from llm_installer.studio.store.leases import Watch, only_watch
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed, OtherBody, Stale, Unknown
from llm_installer.studio.store.tables import Job
from tests.tiers import minutes


def new(store: Store, **given: object) -> str:
    job, fresh = jobs.create(store, NewJob(**{"model": "tiny", "file_id": None, **given}))  # type: ignore[arg-type]
    assert fresh
    return job.id


def look(store: Store, job_id: str) -> Job:
    with store.reading() as session:
        return jobs.find(session, job_id)


def tell(store: Store, job_id: str, **given: object) -> Job:
    with store.writing() as session:
        return claims.report(store, session, job_id, Report(**given))  # type: ignore[arg-type]


def take(store: Store, worker: str = "w") -> Job:
    taken = claims.claim(store, Claim(worker))
    assert taken
    return taken


def test_a_job_goes_its_way_and_its_events_tell_it(store: Store) -> None:
    job = new(store, options={"epochs": 3})
    taken = take(store)
    assert (taken.id, taken.attempt, taken.state, taken.status) == (job, 1, "preparing", "training")
    assert claims.claim(store, Claim("other")) is None
    tell(store, job, attempt=1, state="training", progress=40, step=4, steps=10, run="r")
    told = tell(store, job, attempt=1, progress=20, step=2, events=[NewEvent("metrics", {"step": 2})])
    assert (told.progress, told.step) == (40, 2), "progress never falls; the step may, after a resume"
    with store.writing() as session:
        claims.complete(store, session, job, 1, {"files": []})
    with store.writing() as session:
        claims.complete(store, session, job, 1, {"files": []})  # said twice, as after a lost answer
    with store.reading() as session:
        found = events.after(session, job)
    assert [one.data.get("state") for one in found] == ["queued", "preparing", "training", None, "completed"]
    assert [one.id for one in found] == sorted(one.id for one in found)
    done = look(store, job)
    assert (done.progress, done.options) == (100, {"epochs": 3})
    assert done.finished_at and done.started_at and done.started_at.utcoffset() == timedelta(0)


def test_the_highest_priority_goes_first_then_the_oldest(store: Store) -> None:
    low, high, second = new(store), new(store, priority=5), new(store)
    new(store, engine="colab", priority=9)
    assert [take(store).id for _ in range(3)] == [high, low, second]
    assert claims.claim(store, Claim("w")) is None, "the one for a notebook is not for this worker"


def test_the_same_key_is_the_same_job(store: Store) -> None:
    first, fresh = jobs.create(store, NewJob("tiny", None, key="k", options={"epochs": 1}))
    again, fresh_again = jobs.create(store, NewJob("tiny", None, key="k", options={"epochs": 1}))
    assert (first.id, fresh, fresh_again) == (again.id, True, False)
    with pytest.raises(OtherBody):
        jobs.create(store, NewJob("tiny", None, key="k", options={"epochs": 2}))
    other, fresh = jobs.create(store, NewJob("tiny", None, key="k", owner="somebody else"))
    assert fresh and other.id != first.id


def test_the_same_key_from_many_threads_at_once_is_one_job(store: Store) -> None:
    found: list[str] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        found.append(jobs.create(store, NewJob("tiny", None, key="k"))[0].id)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_a_worker_that_was_replaced_changes_nothing(store: Store) -> None:
    job = new(store)
    take(store, "frozen")
    assert claims.lose_all_of(store, "frozen") == 1
    assert take(store, "second").attempt == 2
    for attempt in (1, 3):
        with pytest.raises(Stale):
            tell(store, job, attempt=attempt, progress=90)
        for act in (claims.fail, claims.give_back):
            with pytest.raises(Stale), store.writing() as session:
                act(store, session, job, attempt, "no")
        with pytest.raises(Stale), store.writing() as session:
            claims.complete(store, session, job, attempt, {"files": ["wrong"]})
    assert (look(store, job).progress, look(store, job).result) == (0, {})
    assert tell(store, job, attempt=2, state="training").attempt == 2


def test_silence_loses_a_job_and_a_word_in_time_brings_it_back(store: Store) -> None:
    now = [0.0]
    watch = Watch(store, 10, lambda: now[0])
    job = new(store)
    take(store)
    assert watch.look() == []
    now[0] = 9
    tell(store, job, attempt=1, state="training")
    assert watch.look() == []
    now[0] = 18
    assert watch.look() == []
    now[0] = 19.5
    assert watch.look() == [job] and look(store, job).state == "resumable" and look(store, job).status == "training"
    back = tell(store, job, attempt=1, state="training")
    assert (back.state, back.attempt) == ("training", 1), "nobody else had taken it"


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_is_set_neither_ends_a_lease_nor_lengthens_it(store: Store, days: int) -> None:
    now = [0.0]
    watch = Watch(store, 10, lambda: now[0])
    job = new(store)
    take(store)
    watch.look()
    store.shift = timedelta(days=days)
    now[0] = 5
    assert watch.look() == []
    now[0] = 10
    assert watch.look() == [job]


def test_after_a_server_was_away_its_workers_have_a_whole_lease_to_come_back(store: Store) -> None:
    job = new(store)
    take(store)
    now = [1000.0]  # a new server, long after
    watch = Watch(store, 10, lambda: now[0])
    assert watch.look() == []
    now[0] += 9
    assert watch.look() == [] and tell(store, job, attempt=1).attempt == 1


@pytest.mark.parametrize("state", [None, "training", "uploading"])
def test_cancelling_shows_in_the_state_and_never_in_the_status(store: Store, state: str | None) -> None:
    job = new(store)
    if state:
        take(store)
        tell(store, job, attempt=1, state=state)
    with store.writing() as session:
        jobs.cancel(store, session, job)
    if state:
        assert (look(store, job).state, look(store, job).status) == ("cancelling", "training")
        assert tell(store, job, attempt=1, state="uploading", progress=70).state == "cancelling"
        with store.writing() as session:
            claims.fail(store, session, job, 1, "stopped")
    assert (look(store, job).state, look(store, job).status) == ("cancelled", "failed")
    with store.writing() as session:
        assert jobs.cancel(store, session, job).state == "cancelled"
        assert jobs.again(store, session, job).state == "queued"
    assert take(store).attempt == (2 if state else 1)


def test_only_arrows_of_the_table(store: Store) -> None:
    job = new(store)
    with pytest.raises(Stale):
        tell(store, job, attempt=0, state="training")
    take(store)
    tell(store, job, attempt=1, state="training")
    for state in ("preparing", "completed", "queued", "nonsense"):
        with pytest.raises(NotAllowed):
            tell(store, job, attempt=1, state=state)
    with pytest.raises(Unknown):
        tell(store, "no such job", attempt=1)
    assert look(store, job).state == "training"


def test_lists_go_on_where_they_ended(store: Store) -> None:
    made = [new(store) for _ in range(7)]
    with store.reading() as session:
        first = [job.id for job in jobs.listed(session, Wanted(most=4))]
        rest = [job.id for job in jobs.listed(session, Wanted(most=4, after=first[-1]))]
    assert sorted(first + rest) == sorted(made) and len(first) == 4


def test_two_stores_adding_to_one_job_lose_nothing(opened: Callable[[], Store]) -> None:
    """Read, add, write, by several who do not know of each other."""
    stores = [opened() for _ in range(4)]
    job = new(stores[0])

    def add(store: Store) -> None:
        for _ in range(50):
            with store.writing() as session:
                found = jobs.locked(session, job)
                found.step = found.step + 1
                events.add(session, found, [NewEvent("message")], store.now(session))

    threads = [threading.Thread(target=add, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with stores[0].reading() as session:
        assert jobs.find(session, job).step == 200 and len(events.of_type(session, job, "message")) == 200


def test_many_claims_at_once_and_no_job_twice(opened: Callable[[], Store]) -> None:
    stores = [opened() for _ in range(4)]
    made = {new(stores[0]) for _ in range(60)}
    taken: list[str] = []

    def work(store: Store) -> None:
        while job := claims.claim(store, Claim("w")):
            taken.append(job.id)

    threads = [threading.Thread(target=work, args=(store,)) for store in stores for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 60 and set(taken) == made


def test_a_code_is_changed_for_a_token_once_and_the_token_ends_with_its_job(store: Store) -> None:
    job, other = new(store), new(store)
    with store.writing() as session:
        code = tokens.make(store, session, job, tokens.PAIRING, 600)
        late = tokens.make(store, session, other, tokens.PAIRING, 600)
    with store.writing() as session:
        assert tokens.job_of(store, session, code) is None, "a code is no token"
        found = tokens.exchange(store, session, f"{code[:5].lower()} - {code[5:]}")
        assert found and found[0] == job
    with store.writing() as session:
        assert tokens.exchange(store, session, code) is None
        assert tokens.job_of(store, session, found[1]) == job
        store.shift = timedelta(seconds=601)
        assert tokens.exchange(store, session, late) is None
        jobs.cancel(store, session, job)
    with store.reading() as session:
        assert tokens.job_of(store, session, found[1]) is None


def test_one_watch_on_a_database(opened: Callable[[], Store]) -> None:
    one, other = opened(), opened()
    with only_watch(one) as first:
        assert first
        if one.postgres:
            with only_watch(other) as second:
                assert not second
    with only_watch(other) as after:
        assert after


RACE = """
import sys
from llm_installer.studio.store import claims
from llm_installer.studio.store.opening import open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while job := claims.claim(store, claims.Claim("w")):
    print(job.id)
"""
ADD = """
import sys
from llm_installer.studio.store import claims
from llm_installer.studio.store.events import NewEvent
from llm_installer.studio.store.opening import open_store
from llm_installer.studio.store import jobs
store = open_store(sys.argv[1])
print("ready", flush=True)
job = sys.stdin.readline().strip()
for _ in range(500):
    with store.writing() as session:
        found = jobs.locked(session, job)
        found.step = found.step + 1
"""


def together(code: str, count: int, database: str, line: str) -> list[str]:
    """What so many processes print that begin at the same time."""
    command = [sys.executable, "-c", code, database]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(count)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    return [word for text in said for word in text.split()]


@pytest.mark.slow
@minutes
def test_two_thousand_jobs_and_eight_processes(store: Store, database: str) -> None:
    with store.writing() as session:
        now = store.now(session)
        given = {"created_at": now, "updated_at": now, "model": "tiny"}
        session.add_all(Job(id=str(uuid.uuid4()), **given) for _ in range(2000))
    taken = together(RACE, 8, database, "go")
    assert len(taken) == len(set(taken)) == 2000


@pytest.mark.slow
@minutes
def test_two_processes_adding_lose_nothing(store: Store, database: str) -> None:
    job = new(store)
    together(ADD, 2, database, job)
    assert look(store, job).step == 1000


def test_a_job_is_deleted_when_it_has_ended_and_its_content_when_it_is_old(store: Store, tmp_path: Path) -> None:
    folder, job, other = tmp_path / "data", new(store), new(store)
    made = {}
    for name in (b"adapter", b"nobody's"):
        made[name] = hashlib.sha256(name).hexdigest()
        assert blobs.write(folder, made[name], 0, name, len(name))[1]
    blobs.write(folder, "1" * 64, 0, b"half", 9)
    with pytest.raises(NotAllowed):
        cleaning.delete_job(store, job)
    taken = take(store)
    tell(store, taken.id, attempt=1, events=[NewEvent("message")] * (cleaning.AT_ONCE + 5))
    with store.writing() as session:
        files = [{"path": "adapter/x", "sha256": made[b"adapter"], "bytes": 7}]
        claims.complete(store, session, taken.id, 1, {"files": files})
        tokens.make(store, session, taken.id)
    assert cleaning.sweep(store, folder) == 0, "nothing is old"
    assert cleaning.sweep(store, folder, 0) == 2 and blobs.received(folder, made[b"adapter"])[1]
    cleaning.delete_job(store, taken.id)
    with pytest.raises(Unknown):
        look(store, taken.id)
    left = job if taken.id == other else other
    assert look(store, left).state == "queued"
    with store.reading() as session:
        assert events.count_after(session, taken.id, 0) == 0 and events.count_after(session, left, 0) == 1
    assert cleaning.sweep(store, folder, 0) == 1
