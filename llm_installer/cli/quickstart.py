"""The whole story on the built-in model: install, ask, train, ask again, in about a minute.

Run as: llm-installer quickstart
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from llm_installer.core.errors import InstallerError, TrainingError
from llm_installer.core.paths import ModelDir, models_dir
from llm_installer.tiny import DATA_FILE, QUESTIONS_FILE
from llm_installer.tiny.scoring import is_right
from llm_installer.ui.console import Console

TRAINING = ("--mode", "fast", "--epochs", "16", "--skip-test", "--no-tensorboard")
"""What the reader would add on a set as small as this: more passes, and no second comparison."""
SHOWN = 6
LAST_QUESTION = "Who looks after the lighthouse?"


@dataclass(frozen=True)
class Question:
    """A held-out question and the words that a right answer holds."""

    question: str
    answer: str
    accept: tuple[str, ...]


def run(console: Console | None = None) -> None:
    """Tell the story with the real commands, so that the reader can type them next; InstallerError if one fails."""
    console = console or Console()
    console.heading("1. Install a model")
    console.line("The built-in model speaks simple English and knows next to nothing.")
    folder = _install(console)
    console.heading("2. Train it on your data")
    console.line(f"{_count_rows()} questions and answers about an island that nobody has heard of:")
    console.line(f"  {DATA_FILE}")
    _command(console, [f"{folder.root}/train.sh", "--data", str(DATA_FILE), *TRAINING])
    console.heading("3. Before and after")
    questions = read_questions()
    console.line(f"{len(questions)} questions that were not in the data, in other words than those that were:")
    with console.waiting("Asking base and tuned model"):
        base, tuned = ask_both(folder, questions)
    for i in range(0, len(questions), max(1, len(questions) // SHOWN))[:SHOWN]:
        console.side_by_side(questions[i].question, questions[i].answer, base[i], tuned[i])
    for name, replies in (("base", base), ("tuned", tuned)):
        right = sum(is_right(reply, q.accept) for q, reply in zip(questions, replies, strict=True))
        console.line(f"  {name:6} {right:3} of {len(questions)} right ({right / len(questions):.0%})")
    console.heading("4. Talk to it")
    _command(console, [f"{folder.root}/start.sh", "--prompt", LAST_QUESTION])
    console.heading("Now with a model and data of your own")
    for line in ("llm-installer install Qwen/Qwen3-0.6B", "~/LLM/models/Qwen_Qwen3-0.6B/train.sh --data my.json"):
        console.line(f"  {line}")


def read_questions() -> list[Question]:
    """The held-out questions that ship with the model."""
    lines = QUESTIONS_FILE.read_text(encoding="utf-8").splitlines()
    return [Question(r["question"], r["answer"], tuple(r["accept"])) for r in map(json.loads, lines)]


def ask_both(folder: ModelDir, questions: Sequence[Question]) -> tuple[list[str], list[str]]:
    """Greedy answers of the base and of the tuned model, from one loaded model with the adapter off and on."""
    from llm_installer.core.examples import Message
    from llm_installer.inference.generate import Sampling, answers
    from llm_installer.inference.load import load_assistant

    assistant = load_assistant(folder, folder.lora)
    prompts = [assistant.encoder.prompt_ids([Message("user", q.question)]) for q in questions]
    sampling = Sampling(max_new_tokens=40)
    with assistant.model.disable_adapter():
        base = [a.text for a in answers(assistant.model, assistant.encoder, prompts, sampling)]
    return base, [a.text for a in answers(assistant.model, assistant.encoder, prompts, sampling)]


def _install(console: Console) -> ModelDir:
    from llm_installer.install.installer import install

    _shown(console, ["llm-installer", "install", "tiny"])
    try:
        folder = ModelDir.find(models_dir() / "tiny")
    except InstallerError:
        return install("tiny", say=console.line)
    console.line(f"Already installed in {folder.root}")
    return folder


def _command(console: Console, words: Sequence[str]) -> None:
    """Run a command as the reader would type it."""
    _shown(console, words)
    code = subprocess.run(words, check=False).returncode
    if code:
        raise TrainingError(f"{words[0]} ended with exit code {code}; what it printed above says why")


def _shown(console: Console, words: Sequence[str]) -> None:
    console.line()
    console.line(f"  $ {shlex.join(words)}")
    console.line()


def _count_rows() -> int:
    return len(DATA_FILE.read_text(encoding="utf-8").splitlines())
