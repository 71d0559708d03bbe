"""docs/reference/python-names.md: every name of three Python guides has a row, and each row a test that shows it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import llm_installer
from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import read_model_info
from llm_installer.data.prepare import read
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.decide import make_plan
from llm_installer.planning.name_rows import NAMES
from llm_installer.planning.options import Options
from llm_installer.planning.registry import find_handler
from llm_installer.planning.trackers import asked
from llm_installer.runs.output import output_folder

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "reference" / "python-names.md").read_text("utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (.+) \| `(tests/[\w/]+\.py)::(\w+)` \|$", re.M)
PARTS = {
    name: {row[1]: row for row in ROW.finditer(text)}
    for name, text in re.findall(r"<!-- names of ([\w ]+) -->\n(.*?)<!-- end of names of \1 -->", PAGE, re.S)
}
GUIDES = {"pipeline": "002", "small models": "003", "sft": "004"}
INSIDE = {
    "text", "labels", "loss", "input_ids", "attention_mask", "return_tensors", "padding", "truncation", "epoch",
    "fp16", "example", "task_name", "dataset", "difficulty", "system_mem", "gpu_mem",
}  # fmt: skip
"""What the guides name where they explain what a library does inside, and columns of their data."""

GIB = 1 << 30
HARDWARE = Hardware("cpu", "CPU", 1, 8 * GIB, 8 * GIB, False, 2)
FACTS = DataFacts(400, 40, "instruct", 20, 200)
SFT = {
    "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.3, "target_modules": ["q_proj", "v_proj"], "load_in_4bit": True,
    "num_epochs": 7, "learning_rate": 3e-4, "effective_batch_size": 32, "micro_batch_size": 1, "bf16": True,
    "sample_packing": True, "load_in_8bit": True, "use_rslora": True, "use_dora": True, "rank_pattern": {"q_proj": 2},
    "alpha_pattern": {"q_proj": 2}, "init_lora_weights": "gaussian", "max_seq_len": 64, "lr_scheduler": "linear",
    "warmup_steps": 9, "weight_decay": 0.5, "max_grad_norm": 0.3, "seed": 3407, "order": "given",
}  # fmt: skip
PIPELINE = {
    "r": 4, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 3, "optim": "sgd", "fp16": True,
    "max_length": 64, "lr_scheduler_type": "constant", "gradient_checkpointing": True,
}  # fmt: skip


def plan_of(**given: object) -> dict[str, object]:
    info = read_model_info(MODEL_DIR)
    options = Options.from_kwargs(data="x", **given)
    plan = make_plan(options, info, find_handler(info), HARDWARE, FACTS, (options.max_seq_length or 200, ""))
    return {name: value for name, value in plan.to_json().items() if name != "why"}


@pytest.mark.parametrize(("name", "value"), (SFT | PIPELINE).items(), ids=str)
def test_a_parameter_changes_the_plan(name: str, value: object) -> None:
    usual, changed = plan_of(), plan_of(**{name: value})
    assert changed != usual
    own = NAMES[name].own if name in NAMES else name
    held = {"lora_r": "lora_r", "lora_alpha": "lora_alpha", "learning_rate": "learning_rate", "seed": "seed"}.get(own)
    assert held is None or changed[held] == value


def test_data_model_and_output_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    names = {
        "sources": ("data_path", "train_dataset"),
        "model_path": ("model_path", "model", "base_model_path"),
        "output": ("ckpt_output_dir", "output_dir"),
    }
    for own, group in names.items():
        for name in group:
            assert getattr(Options.from_kwargs(**{name: tmp_path / "x"}), own) == str(tmp_path / "x")
    assert output_folder(Options.from_kwargs(ckpt_output_dir=tmp_path / "x")) == tmp_path / "x"


def test_a_tracker_is_implied_by_its_project() -> None:
    assert asked(Options()) == []
    for name in ("wandb_project", "wandb_entity"):
        assert asked(Options.from_kwargs(**{name: "mine"})) == ["wandb"]


def test_the_text_is_in_the_named_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "Hello there.", "text": "Not this."}\n', "utf-8")
    options = Options.from_kwargs(data="a.jsonl", dataset_text_field="body")
    assert read(options, tmp_path).train[0].messages[0].content == "Hello there."


@pytest.mark.parametrize(
    ("name", "anyway", "refused"),
    [
        ("bias", "none", "all"), ("task_type", "CAUSAL_LM", "SEQ_CLS"), ("max_steps", -1, 500), ("lora", None, False),
        ("logging_steps", 1, 10), ("dataloader_num_workers", 0, 2), ("dataloader_pin_memory", True, False),
        ("remove_unused_columns", True, False), ("trust_remote_code", False, True), ("save_model", True, False),
        ("peft_config", None, object()), ("args", None, object()), ("enable_model_splitting", True, False),
    ],
)  # fmt: skip
def test_what_means_nothing_here_is_refused_or_done_anyway(name: str, anyway: object, refused: object) -> None:
    assert Options.from_kwargs(**{name: anyway}) == Options()
    with pytest.raises(UsageError, match=rf"^{name}="):
        Options.from_kwargs(**{name: refused})


def test_every_row_names_a_test_that_exists_and_a_function_that_exists() -> None:
    lines = re.findall(r"^\| `.*$", PAGE, re.M)
    assert len(lines) == sum(map(len, PARTS.values())) > 60, "each line is read as a row, and none stands twice"
    for rows in PARTS.values():
        for row in rows.values():
            tree = ast.parse((ROOT / row[3]).read_text("utf-8"))
            assert row[4] in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, row[0]
            for name in re.findall(r"`(\w+)\(", row[2]):
                assert name == "print" or hasattr(llm_installer, name), row[0]
            if row[2].startswith("the same") and " of `" not in row[2]:
                assert row[1] in vars(Options()) or row[1] in NAMES or hasattr(llm_installer, row[1]), row[0]
            if "test_a_parameter_changes_the_plan" in row[0]:
                assert row[1] in SFT | PIPELINE, row[0]


@pytest.mark.parametrize("part", GUIDES)
def test_every_name_of_the_guides_has_a_row(part: str, shared: Path) -> None:
    (file,) = (shared / "seeds").glob(f"{GUIDES[part]}_*.txt")
    text = file.read_text("utf-8")
    blocks = "\n".join(re.findall(r"^```(?:python|bash)\n(.*?)^```", text, re.S | re.M))
    code = re.sub(r"#.*|^pip .*|\"[^\"\n]*\"", "", blocks, flags=re.M)
    keywords = set(re.findall(r"(?<=[(,\n])\s*(\w+)=(?!=)", code)) | set(re.findall(r"sft_config\.(\w+) =", code))
    functions = set(re.findall(r"^def (\w+)\(", code, re.M))
    flags = {name.replace("-", "_") for name in re.findall(r"(?<=\s)--?([a-z][\w-]*)", code)}
    listed = set(re.findall(r"^- \*?\*?`(?:--)?(\w+)`", text, re.M))
    names = {name for name in keywords | functions | flags | listed if len(name) > 1 or name in "rmcn"}
    assert sorted(names - PARTS[part].keys() - INSIDE) == []
