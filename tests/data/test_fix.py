"""The cleaned copy: every row that can be trained on, readable by any tool, and a list of all that is different."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer.core.errors import DataError
from llm_installer.data.fix import Fixed, fix, plain
from llm_installer.data.store.load import DataRequest, load_examples
from llm_installer.ui.dataset import fixed_parts

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ALPACA = {"instruction": "a", "output": "b"}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(folder: Path, text: str, name: str = "my.jsonl", **more) -> Fixed:
    (folder / name).write_text(text, encoding="utf-8")
    return fix(DataRequest(name, base=folder, **more), folder / "out.jsonl")


def test_every_kind_of_row_is_written_in_a_known_shape(tmp_path):
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    talk = [
        {"role": "user", "content": "1+1? \U0001f600"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "2"},
    ]
    rows = [ALPACA, {"prompt": "c", "completion": "d"}, {"text": "e"}, {"messages": talk, "tools": [{"name": "add"}]}]
    fixed = run(tmp_path, "\n".join(map(json.dumps, rows)))
    assert (fixed.written, fixed.changed_count, fixed.skipped_count) == (4, 0, 0)
    written = lines(tmp_path / "out.jsonl")
    assert written[0] == {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert written[1:3] == rows[1:3]
    assert written[3]["messages"] == talk
    assert written[3]["tools"] == [{"type": "function", "function": {"name": "add"}}]
    assert fixed.files[0].formats == {"alpaca": 1, "completion": 1, "text": 1, "openai": 1}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(
    "name",
    [
        "alpaca/alpaca_zh_demo.json",
        "completion/HumanEval.jsonl.gz",
        "openai/kto_en_demo.json",
        "parquet/turkish_dialogues_train.parquet",
        "qa/quac_sample.json",
        "sharegpt/glaive_toolcall_en_demo.json",
        "text/wiki_demo.txt",
        "vision/mllm_demo.json",
    ],
)
def test_the_copy_teaches_the_same(name, tmp_path):
    fixed = fix(DataRequest(name, base=SHARED), tmp_path / "out.jsonl")
    before = load_examples(DataRequest(name, base=SHARED), tmp_path / "work").train
    after = load_examples(DataRequest("out.jsonl", base=tmp_path), tmp_path / "work").train
    assert fixed.written == len(after) == len(set(before.row_keys().tolist()))
    assert list(dict.fromkeys(before.row_keys().tolist())) == after.row_keys().tolist()


def test_broken_lines_are_mended_where_their_meaning_is_plain(tmp_path):
    text = "\n".join(
        [
            json.dumps(ALPACA),
            "{'instruction': 'it\\'s', 'output': 'one', 'input': None}",
            '{"instruction": "two", "output": "comma",},',
            '{"instruction": "three", "output": "cut o',
            "",
            '{"instruction": "four", "output": ""}',
            '{"foo": 1}',
            json.dumps(ALPACA),
            '{"instruction": "last", "output": "row"}',
        ]
    )
    fixed = run(tmp_path, text)
    asked = [row["messages"][0]["content"] for row in lines(tmp_path / "out.jsonl")]
    assert asked == ["a", "it's", "two", "last"]
    assert [(change.origin.line, change.change) for change in fixed.changed] == [
        (2, "was written as Python, not as JSON"),
        (3, "was written as Python, not as JSON"),
    ]
    assert [dropped.origin.line for dropped in fixed.skipped] == [4, 6, 7, 8]
    cut, empty, unknown, copy = (dropped.reason for dropped in fixed.skipped)
    assert cut.startswith("column ") and "never closed" in cut
    assert "empty" in empty and "no known format" in unknown and "exact copy" in copy
    listed = lines(tmp_path / "out.changes.jsonl")
    assert [row["line"] for row in listed] == [2, 3, 4, 6, 7, 8]
    assert all(row["file"] == "my.jsonl" and ("change" in row) != ("left_out" in row) for row in listed)


def test_turns_that_are_cut_down_are_listed(tmp_path):
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    fixed = run(tmp_path, json.dumps({"messages": [*talk, {"role": "user", "content": "thanks"}]}))
    assert lines(tmp_path / "out.jsonl") == [{"messages": talk}]
    assert [(c.origin.line, c.change) for c in fixed.changed] == [
        (1, "turns were joined, renamed, or reduced to what is trained on")
    ]


def test_validation_rows_stay_apart(tmp_path):
    fixed = run(tmp_path, json.dumps({"train": [ALPACA], "validation": [{"text": "v"}]}), "my.json")
    assert fixed.written == 2
    assert len(lines(tmp_path / "out.jsonl")) == 1
    assert lines(tmp_path / "out.validation.jsonl") == [{"text": "v"}]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "there are no records"), ('{"text": ""}\n', r"my\.jsonl:1: .*empty"), ("{'a\n", r"my\.jsonl:1")],
)
def test_nothing_to_write_writes_nothing(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason):
        run(tmp_path, text)
    assert [path.name for path in tmp_path.iterdir()] == ["my.jsonl"]


def test_a_broken_document_is_refused_with_its_place(tmp_path):
    with pytest.raises(DataError, match=r"my\.json:3"):
        run(tmp_path, '[\n{"text": "a"},\n{"text": }\n]', "my.json")
    assert [path.name for path in tmp_path.iterdir()] == ["my.json"]


@pytest.mark.parametrize("name", ["out.jsonl", "my.jsonl", "out.changes.jsonl"])
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / "my.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / name).write_text('{"text": "a"}\n')
    out = tmp_path / name.replace(".changes", "")
    with pytest.raises(DataError, match="exists and is not overwritten"):
        fix(DataRequest("my.jsonl", base=tmp_path), out)
    assert (tmp_path / name).read_text() == '{"text": "a"}\n'


def test_a_folder_that_is_not_there_is_named(tmp_path):
    (tmp_path / "my.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"gone/out\.changes\.jsonl cannot be written \(No such file"):
        fix(DataRequest("my.jsonl", base=tmp_path), tmp_path / "gone" / "out.jsonl")


def test_the_end_is_told(tmp_path):
    said = [str(part) for part in fixed_parts(run(tmp_path, '{"text": "a"}\n{"text": ""}\n'))]
    assert said[0].endswith("out.jsonl: 1 written, 0 changed, 1 skipped")
    assert said[1].endswith("out.changes.jsonl")


def test_a_copy_is_read_as_training_reads(tmp_path):
    """--columns, --answers-as, --text-rows and --validation-data mean the same with --fix as without."""
    (tmp_path / "q.jsonl").write_text('{"Q": "one", "A": {"x": 1}, "text": "t"}\n', encoding="utf-8")
    (tmp_path / "v.jsonl").write_text('{"Q": "two", "A": {"y": 2}}\n', encoding="utf-8")
    asked = DataRequest(
        "q.jsonl", base=tmp_path, columns="prompt=Q,answer=A", answers_as="json", validation_data="v.jsonl"
    )
    loaded = load_examples(asked, tmp_path / "work")
    fix(asked, tmp_path / "out.jsonl")
    assert loaded.validation is not None
    for store, name in ((loaded.train, "out.jsonl"), (loaded.validation, "out.validation.jsonl")):
        assert lines(tmp_path / name) == [plain(example) for example in store]


def test_rows_of_text_are_those_asked_for(tmp_path):
    text = "One line.\nAnother line.\n\nA second paragraph.\n"
    for rows in ("lines", "paragraphs"):
        (tmp_path / rows).mkdir()
        run(tmp_path / rows, text, "my.txt", text_rows=rows)
    assert len(lines(tmp_path / "lines" / "out.jsonl")) == 3
    assert len(lines(tmp_path / "paragraphs" / "out.jsonl")) == 2
