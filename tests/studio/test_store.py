"""The database, on SQLite and Postgres: jobs are created once, claimed once, and written by whoever has them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from llm_installer.studio.store import claims, events, jobs, tokens
from llm_installer.studio.store.claims import Claim, Report
from llm_installer.studio.store.events import NewEvent
from llm_installer.studio.store.jobs import NewJob, Wanted
from llm_installer.studio.store.leases import Watch, only_watch
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed, OtherBody, Stale, Unknown
from llm_installer.studio.store.tables import Job


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
