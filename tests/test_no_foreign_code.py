"""Nothing of a model or adapter folder is ever run as Python, and nobody is asked whether it may be."""

from __future__ import annotations

import ast
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.inference.load import load_assistant
from llm_installer.install.installer import install
from llm_installer.models.base import load_base
from tests.commands import command

PACKAGE = Path(__file__).resolve().parents[1] / "llm_installer"
CODE = """
open({marker!r}, "w")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, ProcessorMixin
class Config(LlamaConfig): model_type = "own"
class Model(LlamaForCausalLM): config_class = Config
class Tokenizer(PreTrainedTokenizerFast): pass
class Processor(ProcessorMixin): pass
def generate(model, **given): return model.generate(**given)
"""
AUTO = {
    "AutoConfig": "own.Config",
    "AutoModelForCausalLM": "own.Model",
    "AutoModelForImageTextToText": "own.Model",
    "AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"],
    "AutoProcessor": "own.Processor",
    "AutoImageProcessor": "own.Processor",
}


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the folder's code would write; whoever asks is answered yes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 1000))
    return tmp_path / "it was run"


@pytest.fixture
def hostile(tiny_llama: Path, tmp_path: Path, marker: Path) -> Path:
    """A model folder with a Python file."""
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "hostile"))
    (folder / "own.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "own.py", folder / "custom_generate" / "generate.py")
    return folder


def change(file: Path, **more: object) -> None:
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps(known | more), "utf-8")


CHANGES: dict[str, Callable[[Path], None]] = {
    "a known type": lambda f: change(f / "config.json", auto_map=AUTO),
    "an unknown type": lambda f: change(f / "config.json", auto_map=AUTO, model_type="own"),
    "no type": lambda f: change(f / "config.json", auto_map=AUTO, model_type=""),
    "a tokenizer": lambda f: change(f / "tokenizer_config.json", auto_map=AUTO, tokenizer_class="Own"),
    "a tokenizer, as a list": lambda f: change(
        f / "tokenizer_config.json", auto_map=["own.Tokenizer", None], tokenizer_class="Own"
    ),
    "a processor": lambda f: [
        change(f / "config.json", vision_config={}),
        change(f / "processor_config.json", auto_map=AUTO, processor_class="Own"),
        change(f / "preprocessor_config.json", auto_map=AUTO, image_processor_type="Own"),
    ],  # type: ignore[func-returns-value]
}
"""How a folder asks for its code to be run."""


@pytest.mark.parametrize("how", CHANGES)
def test_a_folder_is_used_without_its_code_or_refused_in_one_sentence(how: str, hostile: Path, marker: Path) -> None:
    CHANGES[how](hostile)
    info = read_model_info(hostile)
    refused = 0
    for use in (
        lambda: load_encoder(info),
        lambda: load_base(hostile, "float32", "cpu"),
        lambda: install(str(hostile)),
    ):
        try:
            use()
        except InstallerError as error:
            refused += 1
            assert "\n" not in str(error) and "http" not in str(error)
    assert not marker.exists()
    assert (refused == 0) == (how in ("a known type", "a processor"))


def test_the_code_of_an_adapters_tokenizer_is_not_run(installed: Path, hostile: Path, marker: Path) -> None:
    from peft import LoraConfig, get_peft_model

    lora = hostile.parent / "adapter"
    get_peft_model(load_base(hostile, "float32", "cpu"), LoraConfig(target_modules=["q_proj"])).save_pretrained(lora)
    shutil.copy(hostile / "own.py", lora)
    shutil.copy(hostile / "tokenizer_config.json", lora)
    change(lora / "tokenizer_config.json", auto_map=AUTO, tokenizer_class="Own")
    change(lora / "adapter_config.json", auto_map=AUTO, auto_mapping={"parent_library": "own"})
    with pytest.raises(InstallerError, match="Python code of its own, which is never run here"):
        load_assistant(ModelDir(installed), lora)
    assert not marker.exists()


def test_a_chat_that_begins_with_y_runs_nothing(llm_home: Path, hostile: Path, marker: Path) -> None:
    root = install(str(hostile), link=True, say=lambda text: None).root
    CHANGES["a tokenizer"](hostile)
    done = command("start", "--model-path", root, input="y\n" * 100)
    assert not marker.exists()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "is never run here" in done.stderr and "[y/N]" not in done.stderr


def test_no_call_leaves_the_question_open() -> None:
    """Every from_pretrained of transformers says trust_remote_code=False; what PEFT reads is JSON and tensors."""
    calls = [
        (file.name, node)
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("from_pretrained", "from_config")
    ]
    assert len(calls) >= 4
    for name, call in calls:
        if not any(
            name in ast.unparse(call.func) for name in ("PeftModel", "PeftConfig", "LoraConfig", "ScriptDirectory")
        ):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert given.get("trust_remote_code") == "False", f"{name}:{call.lineno}"
