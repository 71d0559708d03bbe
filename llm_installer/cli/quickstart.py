"""The whole story on the built-in model: install, ask, train, ask again, in about a minute.

Run as: llm-installer quickstart
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.text import Text

from llm_installer.core.errors import InstallerError, TrainingError
from llm_installer.core.hints import program, quoted, script
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import short_path
from llm_installer.install.tiny import DATA_FILE, QUESTIONS_FILE
from llm_installer.install.tiny.scoring import is_right
from llm_installer.ui.console import Console
from llm_installer.ui.training import answers

TRAINING = ("--epochs", "8", "--skip-test", "--no-tensorboard")
"""What the reader would add for a set as small as this: more epochs, and no second comparison."""
SHOWN = 6
HUB_MODEL = "Qwen/Qwen3-0.6B"
LAST_QUESTION = "Who looks after the lighthouse?"


@dataclass(frozen=True)
class Question:
    """A question that is not trained on, and the words that a right answer holds."""

    question: str
    answer: str
    accept: tuple[str, ...]


class Acts(Protocol):
    """What the story does beside telling it."""

    def install(self, console: Console) -> ModelDir:
        """The directory of the built-in model, installed if it was not."""

    def command(self, file: Path, words: Sequence[str]) -> int:
        """Run a script of the model directory with these words. Returns its exit code."""

    def ask(self, folder: ModelDir, questions: Sequence[Question]) -> tuple[list[str], list[str]]:
        """Answers of the base and of the tuned model."""


def run(console: Console | None = None, acts: Acts | None = None) -> None:
    """Tell the story with the real commands, so that the reader can type them next; InstallerError if one fails."""
    console, acts = console or Console(), acts or _Really()
    console.heading("1. Install a model")
    console.line("The built-in model speaks simple English and knows next to nothing.")
    console.command([program(), "install", "tiny"])
    folder = acts.install(console)
    console.heading("2. Train it on your data")
    console.line(f"{_count_rows()} questions and answers about an island that nobody has heard of:")
    _command(console, acts, folder.root / "train.sh", ["--data", short_path(DATA_FILE), *TRAINING])
    _before_and_after(console, acts, folder)
    console.heading("4. Talk to it")
    _command(console, acts, folder.root / "start.sh", ["--prompt", LAST_QUESTION])
    console.heading("Now with a model and data of your own")
    console.command([program(), "install", HUB_MODEL])
    console.command([script(models_dir() / HUB_MODEL.replace("/", "_")), "--data", "my.json"])


def _before_and_after(console: Console, acts: Acts, folder: ModelDir) -> None:
    questions = read_questions()
    console.heading("3. Before and after")
    console.line(f"{len(questions)} questions that are not in the data in these words:")
    with console.waiting("Asking base and tuned model"):
        base, tuned = acts.ask(folder, questions)
    for i in range(0, len(questions), max(1, len(questions) // SHOWN))[:SHOWN]:
        console.parts([answers(questions[i].question, questions[i].answer, base=base[i], tuned=tuned[i]), Text()])
    for name, replies in (("base", base), ("tuned", tuned)):
        right = sum(is_right(reply, q.accept) for q, reply in zip(questions, replies, strict=True))
        console.line(f"  {name:6} {right:3} of {len(questions)} right ({right / len(questions):.0%})")


def read_questions() -> list[Question]:
    """The questions that ship with the model."""
    lines = QUESTIONS_FILE.read_text(encoding="utf-8").splitlines()
    return [Question(r["question"], r["answer"], tuple(r["accept"])) for r in map(json.loads, lines)]


def ask_both(folder: ModelDir, questions: Sequence[Question]) -> tuple[list[str], list[str]]:
    """Greedy answers of the base and of the tuned model, from one loaded model with the adapter off and on."""
    from peft import PeftModel

    from llm_installer.core.examples import Message
    from llm_installer.inference import generate
    from llm_installer.inference.load import load_assistant

    assistant = load_assistant(folder, folder.lora)
    assert isinstance(assistant.model, PeftModel)
    prompts = [assistant.encoder.prompt_ids([Message("user", q.question)]) for q in questions]
    sampling = generate.Sampling(max_new_tokens=40)
    with assistant.model.disable_adapter():
        base = [a.text for a in generate.answers(assistant.model, assistant.encoder, prompts, sampling)]
    return base, [a.text for a in generate.answers(assistant.model, assistant.encoder, prompts, sampling)]


class _Really:
    """The acts as the reader would do them."""

    def install(self, console: Console) -> ModelDir:
        from llm_installer.install.installer import install

        try:
            folder = ModelDir.find(models_dir() / "tiny")
        except InstallerError:
            return install("tiny", say=console.line)
        console.line(f"Already installed in {short_path(folder.root)}")
        return folder

    def command(self, file: Path, words: Sequence[str]) -> int:
        with _not_for_us():
            return subprocess.Popen([file, *map(_expanded, words)]).wait()

    def ask(self, folder: ModelDir, questions: Sequence[Question]) -> tuple[list[str], list[str]]:
        return ask_both(folder, questions)


def _command(console: Console, acts: Acts, file: Path, words: Sequence[str]) -> None:
    """Run a script of the model directory as the reader would type it."""
    console.command([script(file.parent, file.name), *map(quoted, words)])
    code = acts.command(file, words)
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        raise TrainingError(f"{file.name} ended with exit code {code}; what it printed above says why")


@contextmanager
def _not_for_us() -> Iterator[None]:
    """Ctrl-C meanwhile is for the command that runs: it saves what there is, and says how it ended."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _expanded(word: str) -> str:
    """A word as the shell hands it on."""
    return str(Path(word).expanduser()) if word.startswith("~/") else word


def _count_rows() -> int:
    return len(DATA_FILE.read_text(encoding="utf-8").splitlines())
