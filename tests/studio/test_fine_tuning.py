"""The real client of OpenAI uploads a file, starts a job, follows it, and reads what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest

from llm_installer.studio.context import Studio
from llm_installer.studio.pages.asked import named
from llm_installer.studio.store import files
from llm_installer.studio.worker.client import Server

RUN = "20261127-101112-medium"
ROWS = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.fixture
def client(studio: Studio) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{studio.address}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_files_are_uploaded_listed_read_and_deleted(client: openai.OpenAI) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    assert (file.filename, file.bytes, file.purpose, file.status) == ("rows.jsonl", len(ROWS), "fine-tune", "processed")
    assert [one.id for one in client.files.list()] == [file.id] and client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == ROWS
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("rows.jsonl", b""), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("rows.jsonl", ROWS), purpose="vision")


def test_a_file_that_somebody_has_deleted_on_the_disk_is_gone(client: openai.OpenAI, studio: Studio) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id).id.removeprefix("ftjob-")
    files.path_of(studio.folder, file.id).unlink()
    for path in (f"/v1/files/{file.id}/content", f"/api/train/dataset/{job}"):
        answer = httpx.get(f"{studio.address}{path}")
        assert answer.status_code == 410 and "no longer on the disk" in answer.text
    with studio.store.reading() as session, pytest.raises(files.Gone):
        named(studio.folder, files.find(session, file.id))
    client.fine_tuning.jobs.cancel(job)
    assert client.files.delete(file.id).deleted


def test_files_are_listed_in_pages_from_either_end(client: openai.OpenAI) -> None:
    made = [client.files.create(file=(f"{n}.jsonl", ROWS), purpose="fine-tune").id for n in range(5)]
    for limit in (2, 5, 10_000):
        assert [one.id for one in client.files.list(limit=limit)] == made[::-1]
        assert [one.id for one in client.files.list(limit=limit, order="asc", purpose="fine-tune")] == made
    assert [one.id for one in client.files.list(after=made[1])] == made[:1]
    with pytest.raises(openai.NotFoundError):
        client.files.list(after="file-nothing")


def test_a_job_from_its_file_to_its_model(
    client: openai.OpenAI, studio: Studio, hand_in: Callable[..., dict[str, object]]
) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        validation_file=file.id,
        suffix="mine",
        seed=7,
        metadata={"who": "me"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}},
        extra_body={"options": {"learning-rate": 1e-4}},
    )
    assert (job.status, job.model, job.training_file, job.seed, job.metadata) == (
        "queued",
        "tiny",
        file.id,
        7,
        {"who": "me"},
    )
    assert job.hyperparameters.n_epochs == 2 and job.fine_tuned_model is None
    server = Server(studio.address)
    claimed = server.claim("w", ("local",))
    assert claimed and claimed["options"] == {
        "epochs": 2,
        "learning_rate": 1e-4,
        "seed": 7,
        "validation_data": file.id,
    }
    assert client.fine_tuning.jobs.retrieve(job.id).status == "validating_files"
    plain = job.id.removeprefix("ftjob-")
    metrics = [
        {"type": "metrics", "data": {"kind": "step", "step": 1, "loss": 2.0}},
        {"type": "metrics", "data": {"kind": "evaluation", "step": 1, "train_loss": 2.0, "validation_loss": 2.5}},
    ]
    server.tell(plain, "report", {"attempt": 1, "state": "training", "run": "r1", "events": metrics})
    assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
    with pytest.raises(openai.ConflictError):
        client.files.delete(file.id)
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == [], "none was saved where this server sees it"
    hand_in(plain, 1, model="tiny:r1", best_step=1)
    server.close()
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model) == ("succeeded", "tiny:r1") and done.finished_at
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
    assert [one.type for one in events].count("metrics") == 2 and "completed" in events[0].message
    assert len({one.id for one in events}) == len(events) == 6
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    found = [(one.step_number, one.metrics.valid_loss, one.fine_tuned_model_checkpoint) for one in checkpoints]
    assert found == [(1, 2.5, "tiny:r1")]


def test_checkpoints_are_those_that_are_there(client: openai.OpenAI, studio: Studio, llm_home: Path) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
    server = Server(studio.address)
    claimed = server.claim("w", ("local",))
    assert claimed
    evaluations = [
        {"type": "metrics", "data": {"kind": "evaluation", "step": step, "validation_loss": 3.0 - step / 10}}
        for step in (0, 5, 10)
    ]
    told = {"attempt": 1, "state": "training", "run": RUN, "events": evaluations}
    server.tell(job.id.removeprefix("ftjob-"), "report", told)
    server.close()
    model = llm_home / "models" / "tiny"
    for step in (5, 8):
        place = model / "runs" / RUN / "checkpoints" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        (place / "state.json").write_text("{}")
    for name in ("model_info.json", "model/config.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("{}")
    found = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    assert [(one.step_number, one.metrics.valid_loss) for one in found] == [(8, 2.5), (5, 2.5)]
    assert found[0].fine_tuned_model_checkpoint == f"tiny:{RUN}:ckpt-step-8"


def test_jobs_are_listed_in_pages_cancelled_and_resumed(client: openai.OpenAI) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    made = [client.fine_tuning.jobs.create(model="tiny", training_file=file.id).id for _ in range(5)]
    assert sorted(one.id for one in client.fine_tuning.jobs.list(limit=2)) == sorted(made)
    assert client.fine_tuning.jobs.cancel(made[0]).status == "cancelled"
    assert client.fine_tuning.jobs.resume(made[0]).status == "queued"
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.resume(made[1])


@pytest.mark.parametrize(
    "asked",
    [
        {"training_file": "file-nothing"},
        {"model": "../up"},
        {"method": {"type": "dpo"}},
        {"hyperparameters": {"n_epochs": -1}},
        {"hyperparameters": {"learning_rate_multiplier": 2}},
        {"extra_body": {"options": {"push": "me/mine"}}},
    ],
)
def test_what_cannot_be_done_is_said(client: openai.OpenAI, asked: dict[str, object]) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
        client.fine_tuning.jobs.create(**{"model": "tiny", "training_file": file.id, **asked})  # type: ignore[arg-type]
    assert len(str(refused.value.body["message"])) > 10  # type: ignore[index]
    assert list(client.fine_tuning.jobs.list()) == []
