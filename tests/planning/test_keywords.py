"""Errors of the Python API name keywords, and every sentence of the program that names a flag can be said that way."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import llm_installer
from llm_installer import InstallerError, lora_sft
from llm_installer.api import install
from llm_installer.planning.keywords import in_python
from llm_installer.planning.options import Options
from llm_installer.planning.settings import described, flag

PACKAGE = Path(llm_installer.__file__).parent
ROOMS = ("core", "planning", "data", "install", "runs", "training", "models", "distributed", "inference", "evals")


@pytest.mark.parametrize(
    ("sentence", "given", "said"),
    [
        (
            "--epochs 3 and --max-circular-epochs 5 disagree; give one of them",
            {"num_epochs": 3},
            "num_epochs=3 and max_circular_epochs=5 disagree; give one of them",
        ),
        (
            "Mode non-stop has no end, so --epochs means nothing there; choose another --mode",
            {},
            "Mode non-stop has no end, so epochs means nothing there; choose another mode",
        ),
        (
            "--circular and --mode slow contradict each other",
            {},
            'circular=True and mode="slow" contradict each other',
        ),
        ("leave out --no-tensorboard.", {}, "leave out tensorboard=False."),
        ("--gpus many is not a number of GPUs", {"gpus": "many"}, 'gpus="many" is not a number of GPUs'),
        ("write --gpus 2, or all", {}, "write gpus=2, or all"),
        ("write it as --rank-pattern q=8,v=16", {}, 'write it as rank_pattern="q=8,v=16"'),
        ("--output ./x is a file", {"ckpt_output_dir": "./x"}, 'ckpt_output_dir="./x" is a file'),
        ("write --precision float32", {"bf16": False}, 'write precision="float32"'),
        ("say which with --columns 'prompt=KEY,answer=KEY'", {}, "say which with columns='prompt=KEY,answer=KEY'"),
        ("begin a run with --data", {}, "begin a run with data_path"),
        ("resume with: ./train.sh --resume", {}, "resume with: ./train.sh --resume"),
        (
            "use: llm-installer train --data FILE --gpus 2; or --resume",
            {},
            "use: llm-installer train --data FILE --gpus 2; or resume=True",
        ),
        ("--link uses a folder in place; leave out --link", {"link": True}, None),
    ],
)
def test_a_sentence_in_words_of_python(sentence: str, given: dict[str, object], said: str | None) -> None:
    found = in_python(sentence, given)
    assert found == (said or "link=True uses a folder in place; leave out link=True")
    assert in_python(found, given) == found


@pytest.mark.parametrize("one", [*described(Options)], ids=lambda one: one.name)
def test_every_flag_is_said_as_a_keyword(one) -> None:
    for sentence in (f"{flag(one.name)} is wrong", f"give {flag(one.name)}, or not", f"without {flag(one.name)}."):
        assert "--" not in in_python(sentence)


def raised() -> Iterator[tuple[str, str]]:
    """(where, the text with X in the place of values) of every error that these rooms raise."""
    for room in ROOMS:
        for file in sorted((PACKAGE / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    for text in map(written, node.exc.args):
                        yield f"{file.relative_to(PACKAGE)}:{node.lineno}", text


def written(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        called = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        return {"program": "llm-installer", "script": "./train.sh"}.get(node.value.func.id, "X") if called else "X"  # type: ignore[attr-defined]
    return ""


# --model is of the command that looks at data, and the others are of chat.
def test_no_error_of_a_story_keeps_a_flag_in_python() -> None:
    found = [(where, in_python(text)) for where, text in raised() if "--" in text]
    assert len(found) > 60, "there is something to find"
    commands = re.compile(r"(llm-installer|\.sh|hf|torchrun|chmod|curl|pip) [^;]*|--(model|no-lora|lora|run)\b")
    left = [(where, text) for where, text in found if re.search(r"(?<![\w-])--[a-z]", commands.sub("", text))]
    assert left == []


def test_errors_of_the_api(installed: Path, write_rows: Callable[..., Path]) -> None:
    rows = write_rows(8)
    for given, says in (
        ({"data_path": None}, '^Say what to train on, for example: data_path="my.json"$'),
        ({"mode": "non-stop", "num_epochs": 3}, "so num_epochs means nothing there; choose another mode$"),
        ({"circular": True, "mode": "slow"}, '^circular=True and mode="slow" contradict each other'),
        ({"max_steps": 500}, "^max_steps=500: .*; write epochs=1, for example$"),
        ({"report_to": "x"}, "^report_to does not know 'x'"),
        ({"packing": True, "fast": "off"}, '^fast="off" and packing="on" contradict'),
    ):
        with pytest.raises(InstallerError, match=says):
            lora_sft(installed, **{"data_path": rows, **given})
    with pytest.raises(InstallerError, match="link=True uses a folder in place, and tiny is not"):
        install("tiny", link=True)


def test_the_public_names_are_what_dir_shows() -> None:
    assert {"InstallerError", "__version__", "evaluate", "load", "lora_sft", "merge"} < {*dir(llm_installer)}
    for name in {*dir(llm_installer)} - {"__version__"}:
        found = getattr(llm_installer, name)
        assert found.__name__ == name and found.__doc__
    with pytest.raises(AttributeError):
        getattr(llm_installer, "nothing")  # noqa: B009
