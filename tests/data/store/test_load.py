"""Loading: every shared file accepted with the right count or refused with the right reason, and never served stale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.splitting import split
from llm_installer.data.store.load import DataRequest, Loaded, load_examples

SHARED = Path(__file__).parents[3].parent / "shared" / "data"

ACCEPTED = {
    "alpaca/alpaca_en_demo.json": ("alpaca", 999, 0),
    "alpaca/alpaca_fixture_axolotl.json": ("alpaca", 2, 0),
    "alpaca/alpaca_zh_demo.json": ("alpaca", 1000, 0),
    "alpaca/identity.json": ("alpaca", 91, 0),
    "alpaca/instruct_response_torchtune.json": ("alpaca", 2, 0),
    "alpaca/msswift_alpaca.jsonl": ("alpaca", 3, 0),
    "completion/HumanEval.jsonl.gz": ("completion", 164, 0),
    "completion/msswift_alpaca.csv": ("alpaca", 3, 0),
    "completion/msswift_query_response.jsonl": ("pair", 3, 0),
    "completion/t0_quoref_find_answer.jsonl": ("completion", 200, 0),
    "openai/kto_en_demo.json": ("kto", 150, 150),
    "openai/msswift_chatml.jsonl": ("openai", 3, 0),
    "openai/torchtune_hh_rlhf_tiny.json": ("preference", 1, 0),
    "openai/turkish_dialogues_test.jsonl": ("openai", 525, 0),
    "openai/v1_dpo_demo.jsonl": ("preference", 10, 0),
    "parquet/turkish_dialogues_train.parquet": ("openai", 3950, 0),
    "qa/gsm8k_test.jsonl": ("qa", 1319, 0),
    "qa/gsm8k_train.jsonl": ("qa", 7473, 0),
    "qa/quac_sample.json": ("squad", 12, 0),
    "qa/squad_v1_allennlp.json": ("squad", 5, 0),
    "qa/squad_v2_flat_sample.json": ("qa", 8, 6),
    "qa/torchtitan_sft_data.json": ("qa", 10, 0),
    "sharegpt/axolotl_conversation.json": ("sharegpt", 1, 0),
    "sharegpt/fastchat_dummy_conversation.json": ("sharegpt", 500, 0),
    "sharegpt/glaive_toolcall_en_demo.json": ("sharegpt", 300, 0),
    "sharegpt/msswift_conversations_user_assistant.jsonl": ("sharegpt", 3, 0),
    "sharegpt/torchtune_chat_tiny.json": ("sharegpt", 1, 0),
    "text/c4_demo.jsonl": ("text", 300, 0),
    "text/mlx_wikisql_test.jsonl": ("text", 100, 0),
    "text/mlx_wikisql_train.jsonl": ("text", 1000, 0),
    "text/mlx_wikisql_valid.jsonl": ("text", 100, 0),
    "text/tinyshakespeare.txt": ("text", 68, 0),
    "text/wiki_demo.txt": ("text", 30, 0),
    "vision/mllm_demo.json": ("openai", 6, 0),
}
REFUSED = {
    "SOURCES.tsv": r"SOURCES\.tsv:2: no known format",
    "toolcall/bfcl_v4_parallel_multiple.json": r"multiple\.json:1: no known format .*'id', 'question', 'function'",
    "vision/msswift_multi_modal_images_url.jsonl": r"3 records skipped, .* images are not downloaded",
    "vision/torchtune_vqa_tiny.json": r"the image .*vision/tests/assets/rgb_pytorch\.png does not exist \(1x\)",
    "vision/v1_multimodal_demo.jsonl": r"the image .*/1\.jpg does not exist \(8x\)",
}
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")


def alpaca(number: int) -> dict[str, str]:
    return {"instruction": f"question {number}", "output": f"answer {number}"}


def write(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def load(folder: Path, data: str = "my.jsonl", **more) -> Loaded:
    return load_examples(DataRequest(data, base=folder, **more), folder / "work")


def left(folder: Path) -> list[Path]:
    """What is in the cache beside its lock."""
    return [path for path in (folder / "work").iterdir() if path.name != ".lock"]


@shared
@pytest.mark.parametrize("name", ACCEPTED)
def test_shared_data_are_accepted(name, tmp_path):
    form, examples, dropped = ACCEPTED[name]
    loaded = load_examples(DataRequest(name, base=SHARED), tmp_path)
    assert len(loaded.train) == examples
    assert loaded.dropped_count == len(loaded.dropped) == dropped
    assert [tuple(file.formats) for file in loaded.files] == [(form,)]
    assert loaded.validation is None
    for index in {0, examples // 2, examples - 1}:
        found = loaded.train[index]
        assert found.origin.file == name
        assert found.messages[-1].role == "assistant"
        assert found.messages[-1].content or found.messages[-1].tool_calls


@shared
@pytest.mark.parametrize("name", REFUSED)
def test_shared_data_are_refused_for_the_right_reason(name, tmp_path):
    with pytest.raises(DataError, match=REFUSED[name]):
        load_examples(DataRequest(name, base=SHARED), tmp_path)


@shared
def test_the_tables_above_are_complete():
    names = {str(p.relative_to(SHARED)) for p in SHARED.rglob("*") if p.is_file() and p.suffix not in (".jpg", ".png")}
    assert names == ACCEPTED.keys() | REFUSED.keys()


def test_several_formats_and_a_row_each_way(tmp_path):
    write(
        tmp_path / "my.jsonl",
        {"instruction": "a \U0001f600", "input": "", "output": "b"},
        {"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]},
        {"instruction": "e", "output": "  "},
        {"prompt": "f", "completion": "g"},
        {"text": "h"},
    )
    loaded = load(tmp_path)
    assert list(loaded.train) == [
        Example((Message("user", "a \U0001f600"), Message("assistant", "b")), Origin("my.jsonl", 1)),
        Example((Message("user", "c"), Message("assistant", "d")), Origin("my.jsonl", 2)),
        Example((Message("user", "f"), Message("assistant", "g")), Origin("my.jsonl", 4), "completion"),
        Example((Message("assistant", "h"),), Origin("my.jsonl", 5), "text"),
    ]
    assert [str(dropped.origin) for dropped in loaded.dropped] == ["my.jsonl:3"]
    (reason,) = loaded.reasons
    assert "output" in reason and "empty" in reason and loaded.reasons[reason] == 1
    (file,) = loaded.files
    assert file.formats == {"alpaca": 2, "openai": 1, "completion": 1, "text": 1}
    assert (file.records, file.examples, file.dropped) == (5, 4, 1)
    assert json.loads(loaded.dropped_file.read_text()) == {
        "file": "my.jsonl", "line": 3, "record": 0, "reason": reason
    }  # fmt: skip


def test_many_skipped_records_are_counted_and_kept_on_file(tmp_path):
    write(tmp_path / "my.jsonl", *({"instruction": "q", "output": ""} for _ in range(1500)), alpaca(1))
    loaded = load(tmp_path)
    assert (len(loaded.train), len(loaded.dropped), loaded.dropped_count) == (1, 1000, 1500)
    assert len(loaded.dropped_file.read_text().splitlines()) == 1500


@pytest.mark.parametrize("first", ["loose", "strict"])
def test_strict_refuses_the_first_row_by_name_also_from_the_cache(tmp_path, first):
    write(tmp_path / "my.jsonl", alpaca(1), {"instruction": "q", "output": ""})
    if first == "loose":
        assert len(load(tmp_path).train) == 1
    with pytest.raises(DataError, match=r"my\.jsonl:2: .*output.* is empty; correct it, or run without --strict"):
        load(tmp_path, strict=True)


def test_an_unknown_shape_among_others_is_skipped_by_name(tmp_path):
    write(tmp_path / "my.jsonl", {"foo": 1, "bar": 2}, alpaca(1), {"foo": 3, "bar": 4}, 7)
    loaded = load(tmp_path)
    assert [row.origin.line for row in loaded.train] == [2]
    assert loaded.reasons == {
        "no known format fits: the record has the keys 'foo', 'bar'": 2,
        "the record is a number where text or an object with named keys is expected": 1,
    }
    assert [dropped.origin.line for dropped in loaded.dropped] == [1, 3, 4]
    assert loaded.warnings == ("my.jsonl: 3 of 4 records skipped, as no known format fits",)
    (file,) = loaded.files
    assert (file.records, file.examples, file.dropped, file.unknown, file.formats) == (4, 1, 3, 3, {"alpaca": 1})


def test_a_named_format_or_column_that_some_rows_lack(tmp_path):
    write(tmp_path / "my.jsonl", alpaca(1), {"Q": "a", "A": "b"})
    loaded = load(tmp_path, dataset_format="alpaca")
    assert len(loaded.train) == 1 and next(iter(loaded.reasons)).startswith("the format alpaca needs the keys")
    loaded = load(tmp_path, columns="prompt=Q,answer=A")
    assert len(loaded.train) == 1 and next(iter(loaded.reasons)).startswith("--columns names 'Q', but the record has")


@pytest.mark.parametrize("strict", [False, True])
def test_a_file_of_unknown_shape_stops(tmp_path, strict):
    write(tmp_path / "a.jsonl", alpaca(1))
    write(tmp_path / "my.jsonl", *([alpaca(1)] * strict), {"foo": 1, "bar": 2}, {"foo": 1})
    with pytest.raises(DataError, match=rf"my\.jsonl:{1 + strict}: no known format .*; the nearest are .*--columns"):
        load(tmp_path, "a.jsonl,my.jsonl", strict=strict)
    assert left(tmp_path) == [], "a refused dataset leaves nothing behind"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"my\.jsonl holds no records"),
        ('{"instruction": "q", "output": ""}\n' * 2, r"2 records skipped, .* at my\.jsonl:1\): .*output.* \(2x\)"),
    ],
)
def test_nothing_to_train_on_is_an_error_that_says_why(tmp_path, content, message):
    (tmp_path / "my.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)
    assert left(tmp_path) == [], "a refused dataset leaves nothing behind"


def test_an_empty_file_among_others_is_a_warning(tmp_path):
    write(tmp_path / "a.jsonl", alpaca(1))
    write(tmp_path / "b.jsonl")
    loaded = load(tmp_path, "a.jsonl,b.jsonl")
    assert loaded.warnings == ("b.jsonl holds no records",)
    assert [file.name for file in loaded.files] == ["a.jsonl", "b.jsonl"]


def test_a_document_that_sets_rows_aside(tmp_path):
    (tmp_path / "my.json").write_text(json.dumps({"train": [alpaca(1), alpaca(2)], "validation": [alpaca(3)]}))
    loaded = load(tmp_path, "my.json")
    assert len(loaded.train) == 2 and loaded.validation is not None
    assert loaded.validation[0].messages[0].content == "question 3"
    (tmp_path / "my.json").write_text(json.dumps({"validation": [alpaca(3)]}))
    with pytest.raises(DataError, match="reserved for validation"):
        load(tmp_path, "my.json")


def test_given_validation_data_lose_what_is_trained_on(tmp_path):
    write(tmp_path / "my.jsonl", *map(alpaca, range(10)))
    write(tmp_path / "held.jsonl", alpaca(3), alpaca(77))
    loaded = load(tmp_path, validation_data="held.jsonl")
    assert loaded.validation is not None and len(loaded.validation) == 2
    parts = split(
        loaded.train.prompt_keys(),
        loaded.train.row_keys(),
        validation_split=0.1,
        seed=1,
        max_examples=None,
        given_validation_keys=loaded.validation.prompt_keys(),
    )
    assert (parts.train.tolist(), parts.validation.tolist(), parts.overlap) == (list(range(10)), [1], 1)


def test_format_and_columns_are_obeyed(tmp_path):
    write(tmp_path / "my.jsonl", {"Q": "a", "A": "b"})
    loaded = load(tmp_path, columns="prompt=Q,answer=A")
    assert loaded.train[0].messages == (Message("user", "a"), Message("assistant", "b"))
    assert loaded.files[0].formats == {"qa": 1}
    with pytest.raises(UsageError, match="alpaca"):
        load(tmp_path, dataset_format="alpacca")
    with pytest.raises(DataError, match=r"my\.jsonl:1"):
        load(tmp_path, dataset_format="openai")


def test_flat_messages_of_a_tree_are_put_together(tmp_path):
    flat = {"message_id": "1", "parent_id": None, "role": "prompter", "text": "Hi"}
    reply = {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "Hello"}
    write(tmp_path / "my.jsonl", reply, flat)
    loaded = load(tmp_path)
    assert [m.content for m in loaded.train[0].messages] == ["Hi", "Hello"]
    assert (loaded.files[0].records, loaded.files[0].examples) == (2, 1)


def test_the_usual_place_is_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_HOME", str(tmp_path / "home"))
    write(tmp_path / "my.jsonl", alpaca(1))
    loaded = load_examples(DataRequest("my.jsonl", base=tmp_path))
    assert loaded.train.path.is_relative_to(tmp_path / "home" / "cache" / "datasets")


def test_relative_and_absolute_names_read_the_same(tmp_path, monkeypatch):
    write(tmp_path / "in" / "my.jsonl", alpaca(1))
    monkeypatch.chdir(tmp_path)
    relative = load_examples(DataRequest("in/my.jsonl", base=Path()), tmp_path / "work")
    absolute = load_examples(DataRequest(str(tmp_path / "in" / "my.jsonl"), base=tmp_path), tmp_path / "work")
    assert relative.train[0] == absolute.train[0]
