"""Versions, stages and deletion on the pages; what programs and people get for an address that is none; and words."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date
from pathlib import Path

import pytest

from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.runs.versions import read_versions
from llm_installer.studio.pages import grouped, prices
from llm_installer.studio.pages.drawing import templates
from llm_installer.studio.pages.points import lines_of, points_of
from llm_installer.studio.pages.wrong import wrong_file
from llm_installer.studio.states import COMPLETED, FAILED, TRAINING
from llm_installer.studio.store import files, jobs
from llm_installer.studio.store.refusals import Unknown
from tests.made_runs import make_run
from tests.studio.test_pages import RUN, Open, folder, opened_studio

__all__ = ["folder", "opened_studio"]
OTHER = "20260102-100000-fast"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_version_is_promoted_and_rolled_back(opened_studio: Open, folder: ModelDir) -> None:
    make_run(folder, OTHER, 1e-3)
    http = opened_studio.http
    job = opened_studio.job(COMPLETED, run=OTHER)
    page = http.get(f"/runs/{job.id}").text
    assert "Version tiny/2" in page and "Put into production" in page and "Roll back" not in page
    assert "tiny/1" in http.get("/runs").text
    for key, stage in ((f"tiny/{RUN}", "production"), (job.id, "candidate"), (job.id, "production")):
        answer = http.post(f"/runs/{key}/promote/{stage}")
        assert answer.status_code == 303 and stage in http.get(answer.headers["location"]).text
    assert folder.lora.resolve().parent.name == OTHER, "who names no run gets the same"
    assert "Roll back to tiny/1" in http.get("/runs").text and "Roll back to tiny/1" in http.get(f"/runs/{job.id}").text
    refused = http.post(f"/runs/{job.id}/delete")
    assert refused.status_code == 409 and "in production" in refused.text and "--force" not in refused.text
    back = http.post("/models/tiny/rollback")
    assert "tiny/1 is in production again" in http.get(back.headers["location"]).text
    assert read_versions(folder).stages == {"production": RUN}
    assert http.post(f"/runs/tiny/{RUN}/demote").status_code == 303
    assert http.post("/models/nothing/rollback").status_code == 404
    assert http.post(f"/runs/tiny/{RUN}/promote/staging").status_code == 400


def test_a_run_is_deleted_with_the_job_that_asked_for_it(opened_studio: Open, folder: ModelDir) -> None:
    """One that is in use as well, since the question says so."""
    job, http = opened_studio.job(COMPLETED, run=RUN), opened_studio.http
    http.post(f"/runs/{job.id}/use")
    assert "It is in use; afterwards none is" in http.get(f"/runs/{job.id}").text
    assert http.post(f"/runs/{job.id}/delete").status_code == 303
    assert not (folder.runs / RUN).exists() and not folder.lora.exists()
    with opened_studio.studio.store.reading() as session, pytest.raises(Unknown):
        jobs.find(session, job.id)


def test_jobs_without_a_run_and_uploads_are_deleted(opened_studio: Open, folder: ModelDir) -> None:
    http, file = opened_studio.http, opened_studio.file("answers.csv")
    failed, waits = opened_studio.job(FAILED, error="it broke"), opened_studio.job(file=file)
    assert "Delete this training" in http.get(f"/runs/{failed.id}").text
    assert http.post(f"/runs/{failed.id}/delete").headers["location"] == "/runs"
    assert failed.id not in http.get("/runs").text
    assert http.post(f"/runs/{waits.id}/delete").status_code == 409, "it has not ended"
    assert f"/new/{file.id}/delete" in http.get("/new").text
    assert http.post(f"/new/{file.id}/delete").status_code == 409, "a job waits for it"
    http.post(f"/runs/{waits.id}/cancel")
    assert http.post(f"/new/{file.id}/delete").status_code == 303
    assert "answers.csv" not in http.get("/new").text
    assert not files.path_of(opened_studio.studio.folder, file.id).exists()


def test_many_runs_stand_beside_each_other(opened_studio: Open, folder: ModelDir) -> None:
    runs = [make_run(folder, f"202602{day:02}-100000-fast", day * 1e-4).id for day in range(1, 15)]
    queued = opened_studio.job().id
    page = opened_studio.http.get("/compare", params={"run": [queued, *(f"tiny/{run}" for run in runs)]}).text
    assert page.count("<tr>") == 12 and "tiny/2" in page and "learning rate" in page
    assert "4 more were ticked" in page


def test_people_get_a_page_and_programs_get_json(opened_studio: Open) -> None:
    http = opened_studio.http
    page = http.get("/nowhere", headers=BROWSER)
    assert page.status_code == 404 and page.headers["content-type"].startswith("text/html")
    assert "There is no such page here" in page.text and 'href="/models"' in page.text
    for path in ("/api/nowhere", "/v1/nowhere", "/api/jobs/nothing"):
        answer = http.get(path, headers=BROWSER)
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"
    assert http.get("/nowhere").json()["error"]["code"] == "not_found"
    assert "left out" in http.post("/models/install", headers=BROWSER).text


def test_head_is_get_without_its_body(opened_studio: Open) -> None:
    job = opened_studio.job(TRAINING)
    paths = ("/models", "/runs", "/static/studio.css", f"/runs/{job.id}", "/nowhere", "/api/jobs", "/health")
    for path in (*paths, f"/api/train/status/{job.id}"):
        seen, head = opened_studio.http.get(path), opened_studio.http.head(path)
        assert (head.status_code, head.content) == (seen.status_code, b""), path
        assert head.headers["content-type"] == seen.headers["content-type"]
        assert head.headers["content-length"] == seen.headers["content-length"]
    for path in (f"/runs/{job.id}/live", f"/api/jobs/{job.id}/events"):
        head = opened_studio.http.head(path)
        assert head.status_code == 200 and "event-stream" in head.headers["content-type"], "and it ends"


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name in names:
            packed.writestr(name, "x")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "adapter.zip",
            zipped("adapter_config.json", "adapter_model.safetensors"),
            "is an adapter, the result of a tr",
        ),
        ("result.zip", zipped("adapter/adapter_config.json", "manifest.json"), "is a result from Colab"),
        ("model.zip", zipped("model/model.safetensors"), "weights of a model"),
        ("letter.zip", zipped("word/document.xml"), "is a Word file"),
        ("table.dat", zipped("xl/workbook.xml"), "save it as CSV"),
        ("model.gguf", b"GGUF\3\0\0\0", "weights of a model"),
        ("adapter_model.safetensors", b"\x08\0\0\0\0\0\0\0{}      ", "weights of a model"),
        ("scan", b"%PDF-1.7", "is a PDF"),
        ("photo.csv", b"\x89PNG\r\n\x1a\n", "is a picture"),
        ("nothing.csv", b"", "is empty"),
    ],
)
def test_a_wrong_file_is_told_what_it_is(opened_studio: Open, name: str, content: bytes, words: str) -> None:
    answer = opened_studio.http.post("/new", data={"model": "tiny"}, files={"file": (name, content)})
    assert answer.status_code == 400 and words in answer.text and name in answer.text
    assert [one for one in (opened_studio.studio.folder / "files").iterdir()] == [], "it is not kept"


def test_examples_are_no_wrong_file(tmp_path: Path) -> None:
    for name, content in (("a.csv", b"input,output\nq,a\n"), ("a.zip", zipped("a.csv")), ("a.txt", b"MZ is a name")):
        (tmp_path / name).write_bytes(content)
        assert wrong_file(tmp_path / name, name) == ""


def test_prices_are_corrected_and_go_back(tmp_path: Path, opened_studio: Open) -> None:
    today = date(2026, 12, 1)
    prices.keep_prices(tmp_path, {"low-A100": "1", "high-A100": "2,5"}, today)
    found = {one.gpu: one for one in prices.read_prices(tmp_path)}
    assert (found["A100"].low, found["A100"].high) == (1.0, 2.5)
    assert (found["A100"].source, found["A100"].read_on) == ("you", "2026-12-01")
    assert found["H100"] == next(one for one in prices.PRICES if one.gpu == "H100")
    prices.keep_prices(tmp_path, {"low-A100": "1.00", "high-A100": "2.50"}, date(2027, 1, 1))
    assert {one.gpu: one for one in prices.read_prices(tmp_path)}["A100"].read_on == "2026-12-01", "nobody changed it"
    prices.keep_prices(tmp_path, {"low-A100": "", "high-A100": ""}, today)
    assert prices.read_prices(tmp_path) == list(prices.PRICES)
    for low, high in (("abc", "1"), ("-1", "2"), ("3", "2"), ("nan", "1"), ("1e9", "1e9")):
        with pytest.raises(UsageError):
            prices.keep_prices(tmp_path, {"low-A100": low, "high-A100": high}, today)
    http = opened_studio.http
    assert (
        "prices are saved" in http.get(http.post("/settings/prices", data={"low-L4": "0.2"}).headers["location"]).text
    )
    assert 'value="0.20"' in http.get("/settings").text


def test_money_is_a_range_of_time_and_price(tmp_path: Path) -> None:
    plan: dict[str, object] = {
        "memory": {"predicted_bytes": 30 << 30},
        "elsewhere": [
            {"gpu": "A100", "least_seconds": 3300, "most_seconds": 6000},
            {"gpu": "L4", "least_seconds": 1, "most_seconds": 1},
            {"gpu": "unknown", "least_seconds": 1, "most_seconds": 1},
        ],
    }
    price = prices.Price("A100", "A100", 80, 1.0, 2.0, "test", "2026-12-01")
    small = prices.Price("L4", "L4", 24, 0.5, 0.5, "test", "2026-12-01")
    found = prices.costs(plan, [small, price])
    assert [one.price.gpu for one in found] == ["A100", "L4"], "what does not fit comes last"
    assert found[0].money == "$1.00 to $4.00" and found[0].fits and not found[1].fits
    assert prices.costs({}, [price]) == []


def row(name: str, option: str = "", given: object = None) -> dict[str, object]:
    setting = {"name": option, "help": "", "choices": [], "type": "number", "given": given} if option else None
    return {"name": name, "value": "1", "why": "so", "setting": setting}


def test_the_plan_is_grouped_and_loses_nothing() -> None:
    plan = [row("LoRA alpha", "lora_alpha", 3), row("seed", "seed"), row("epochs", "epochs"), row("something new")]
    found = grouped.groups(plan)
    assert [one["name"] for group in found for one in group.rows] == ["epochs", "LoRA alpha", "seed", "something new"]
    assert [group.open for group in found] == [True, True, False, False], "one that was changed is seen"
    values: dict[str, object] = {"found": {"error": "no"}, "groups": [], "fields": grouped.FILE_FIELDS, "model": "tiny"}
    values |= {
        "given": {"columns": "prompt=a", "epochs": "2"},
        "file": {"id": "f"},
        "costs": [],
        "few": "",
        "prompts": "",
    }
    text = templates().get_template("plan.html").render(**values, seen=type("Seen", (), {"names": ["columns"]}))
    assert text.count('name="columns"') == 1 and 'value="prompt=a"' in text and text.count('name="epochs"') == 1


def test_next_to_nothing_is_warned_of() -> None:
    assert "single row" in grouped.too_few({"train": 1}) and "19 rows" in grouped.too_few({"train": 19})
    assert grouped.too_few({"train": 20}) == grouped.too_few(None) == grouped.too_few({}) == ""


def test_columns_with_other_names_are_chosen(opened_studio: Open, folder: ModelDir) -> None:
    """A person sees which columns there are; what is read follows the choice."""
    http, file = opened_studio.http, opened_studio.file("q.csv", b"frage,antwort,rang\nwas,das,1\nwer,der,2\n")
    unknown = http.get(f"/new/{file.id}/data").text
    assert "<strong>frage</strong>, <strong>antwort</strong> and <strong>rang</strong>" in unknown
    chosen = {"question_column": "frage", "answer_column": "antwort"}
    assert "<dd>2</dd>" in http.get(f"/new/{file.id}/data", params=chosen).text
    assert grouped.keys_of("q.csv holds no records") == grouped.keys_of(None) == []


@pytest.mark.parametrize("strange", [str(10**400), "NaN", "-Infinity", "[" * 99999])
def test_a_curve_leaves_out_what_is_no_number(tmp_path: Path, strange: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(
        f'{{"step": 1, "loss": 2.0}}\n{{"step": 2, "loss": {strange}}}\n{{"step": {strange}, "loss": 1.0}}\n'
    )
    found = points_of(lines_of(file))
    assert {"step": 1, "loss": 2.0} in found
    assert json.loads(json.dumps(found, allow_nan=False)) == found and all(one["step"] in (0, 1, 2) for one in found)


def test_a_stream_begins_after_a_number_that_can_be(opened_studio: Open, folder: ModelDir) -> None:
    job, http = opened_studio.job(COMPLETED, run=RUN), opened_studio.http
    assert http.get(f"/runs/{job.id}/live?after={10**30}").status_code == 422
    assert http.get(f"/runs/{job.id}/live", headers={"last-event-id": str(10**30)}).status_code == 422


def test_a_run_that_has_no_step_yet_says_what_happens(opened_studio: Open, folder: ModelDir) -> None:
    for state, words in (("queued", "waits for its turn"), (TRAINING, "loss before training")):
        assert words in opened_studio.http.get(f"/runs/{opened_studio.job(state).id}").text
    assert "loss before training" not in opened_studio.http.get(f"/runs/{opened_studio.job(TRAINING, step=3).id}").text


def test_a_dataset_has_a_name_and_is_no_path(opened_studio: Open, folder: ModelDir) -> None:
    for name in (
        "../x",
        "/etc/passwd",
        "http://169.254.169.254/a",
        "a/b/c",
        "a b",
        "https://evil.test/datasets/a/b",
        "-x",
    ):
        answer = opened_studio.http.post("/new", data={"model": "tiny", "dataset": name})
        assert answer.status_code == 400 and "is not a dataset of the hub" in answer.text, name
    assert not (opened_studio.studio.folder / "fetches").exists()
