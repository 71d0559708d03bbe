"""The chat in the terminal, with the built-in model: its commands, and what may go wrong in the middle."""

from __future__ import annotations

import io
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llm_installer.cli.conversation import COMMANDS, HELP, chat
from llm_installer.core.errors import AdapterError, UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.tokenizer import load_tokenizer
from llm_installer.inference.chat import Conversation
from llm_installer.inference.generate import Sampling
from llm_installer.inference.load import Assistant
from llm_installer.inference.speakers import Speakers
from llm_installer.inference.start import ChatRequest, load
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.models.base import load_base
from tests.inference.engine.conftest import make_adapter


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return Assistant(load_base(MODEL_DIR, "float32", "cpu").eval(), Encoder(load_tokenizer(MODEL_DIR)), "chat", "")


@pytest.fixture
def talk(assistant: Assistant) -> Conversation:
    return Conversation(assistant, Sampling(max_new_tokens=12))


class Saying(Silence):
    """A voice whose lines are kept."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def line(self, text: str = "") -> None:
        self.said.append(text)


def typed(monkeypatch: pytest.MonkeyPatch, talk: Conversation, *lines: str) -> list[str]:
    """What the chat says beside its answers when these lines are typed."""
    said: list[str] = []
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    chat(talk, Saying(said))
    return said


def test_commands_are_obeyed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], talk: Conversation
) -> None:
    said = typed(monkeypatch, talk, "Hello!", "/new", "Who are you?", "/system Be brief.", "/What", "", "Hello!")
    unknown = f"There is no command /What. {HELP}"
    assert said == [HELP, "Starting over.", "Starting over with these instructions.", unknown, ""]
    assert talk.system == "Be brief." and [turn.content for turn in talk.turns][:1] == ["Hello!"]
    assert talk.turns[1].content in capsys.readouterr().out
    assert typed(monkeypatch, talk, "/system") == [HELP, "Instructions: Be brief.", ""], "nothing is forgotten"
    assert talk.turns
    typed(monkeypatch, talk, "/new", "/etc/hosts is a file?")
    assert talk.turns[0].content == "/etc/hosts is a file?", "a slash alone makes no command"
    assert typed(monkeypatch, talk, "/Quit", "/new") == [HELP], "nothing after /quit is read"


def test_ctrl_c_at_the_prompt_ends_the_chat_the_second_time(talk: Conversation) -> None:
    said: list[str] = []
    lines = iter([KeyboardInterrupt, "/new", KeyboardInterrupt, KeyboardInterrupt])

    def ask(prompt: str = "") -> str:
        line = next(lines)
        if isinstance(line, str):
            return line
        raise line

    chat(talk, Saying(said), ask)
    warning = "Ctrl-C once more ends the chat, as /quit does."
    assert said == [HELP, warning, "Starting over.", warning, ""]


def test_a_question_that_cannot_be_asked_is_forgotten_and_the_chat_goes_on(
    monkeypatch: pytest.MonkeyPatch, assistant: Assistant
) -> None:
    tokenizer = load_tokenizer(MODEL_DIR)
    refusing = "{% if messages[-1].content == 'No' %}{{ raise_exception('never') }}{% endif %}"
    tokenizer.chat_template = refusing + str(tokenizer.chat_template)
    talk = Conversation(replace(assistant, encoder=Encoder(tokenizer)), Sampling(max_new_tokens=4))
    said = typed(monkeypatch, talk, "No", "Hello!")
    assert said[1].startswith("The model cannot be asked this: ") and said[1].endswith("; ask something else")
    assert [turn.content for turn in talk.turns][:1] == ["Hello!"] and len(talk.turns) == 2


def test_what_is_not_in_utf_8_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch, talk: Conversation) -> None:
    said = typed(monkeypatch, talk, "gr\udcfcn", "/system gr\udcfcn", "Hi", "/system", "/new")
    assert [line for line in said if "UTF-8" in line] == [
        "The question, or the instructions, are not in UTF-8; write them in it"
    ] * 2
    assert talk.turns == []


def test_a_model_that_cannot_see_is_not_asked_about_a_picture(talk: Conversation) -> None:
    with pytest.raises(UsageError, match="The model cannot be asked this: "):
        talk.ask("What is this?", images=("picture.png",))
    assert talk.turns == [] and talk.images == []


@pytest.mark.parametrize("style", ["chat", "text"])
def test_a_question_longer_than_the_model_reads_is_refused(assistant: Assistant, style: str) -> None:
    talk = Conversation(replace(assistant, style=style), Sampling(max_new_tokens=4))
    with pytest.raises(UsageError, match=r"The question takes [\d,]+ tokens, and this model reads [\d,]+ with its"):
        talk.ask("Who are you? " * 2000)
    assert talk.turns == []
    assert talk.ask("The cat") if style == "text" else talk.ask("Who are you?"), "the next question is answered"


def test_ctrl_c_ends_the_answer_but_not_the_chat(monkeypatch: pytest.MonkeyPatch, talk: Conversation) -> None:
    interrupted = []

    class Impatient(io.StringIO):
        def write(self, text: str) -> int:
            if text.strip() and text.strip() != ">" and not interrupted:
                interrupted.append(text)
                signal.raise_signal(signal.SIGINT)
            return super().write(text)

    monkeypatch.setattr(sys, "stdout", Impatient())
    typed(monkeypatch, talk, "Tell me a story about a fox.", "Hello!")
    assert interrupted
    assert [turn.content for turn in talk.turns][:1] == ["Hello!"], "the question without an answer is forgotten"


def test_a_missing_adapter_says_what_to_do(installed: Path) -> None:
    with pytest.raises(
        AdapterError, match=r"no adapter at .*/nowhere; train one with .*train\.sh'? --data my.json, or use the base"
    ):
        load(ModelDir(installed), ChatRequest(lora=str(installed / "nowhere")), Silence())


@pytest.mark.parametrize(("raw", "style"), [(None, "chat"), (True, "text"), (False, "chat")])
def test_the_base_alone_is_loaded_as_asked(installed: Path, raw: bool | None, style: str) -> None:
    found = load(ModelDir(installed), ChatRequest(no_lora=True, raw=raw), Silence()).assistant
    assert (found.adapter, found.style, found.model.training) == ("", style, False)


@pytest.fixture
def tuned(installed: Path, tmp_path: Path) -> tuple[Conversation, Speakers]:
    """The random Llama with an adapter that changes what it says."""
    adapter = make_adapter(installed / "model", tmp_path / "adapter", 3, 1.0, r=4, target_modules="all-linear")
    speakers = load(ModelDir(installed), ChatRequest(lora=str(adapter)), Silence())
    return Conversation(speakers.assistant, Sampling(max_new_tokens=8)), speakers


def test_the_base_and_the_adapter_take_turns_in_one_chat(
    tuned: tuple[Conversation, Speakers], capsys: pytest.CaptureFixture[str]
) -> None:
    talk, speakers = tuned

    def heard(*lines: str) -> tuple[list[str], str]:
        """What the chat and what the models say."""
        said: list[str] = []
        typing = iter([*lines, "/quit"])
        chat(talk, Saying(said), lambda prompt="": next(typing), speakers)
        return said[1:], capsys.readouterr().out

    _, by_tuned = heard("Hello!", "/undo")
    _, by_base = heard("/base", "Hello!", "/undo")
    assert by_base != by_tuned and talk.assistant.adapter == ""
    said, _ = heard("Who are you?", "/undo")
    assert said == ["Forgotten: Who are you?"]
    said, _ = heard("/tuned", "/undo")
    words = speakers.assistant.adapter
    assert said == [f"Now answering: {words}.", "There is nothing to forget."]
    said, by_both = heard("/compare Hello!")
    assert (said, by_both) == (["the base model:", f"{words}:"], by_base + by_tuned)
    assert speakers.lora == speakers.first and talk.turns == []
    said, _ = heard("/run", "/compare")
    assert said[0].startswith("Say which run") and said[1].startswith("Say what to ask")


def test_an_adapter_that_cannot_speak_leaves_the_one_that_does(tuned: tuple[Conversation, Speakers], tmp_path) -> None:
    talk, speakers = tuned
    before = talk.ask("Hello!")
    with pytest.raises(AdapterError):
        speakers.use(tmp_path)
    talk.restart()
    talk.assistant = speakers.assistant
    assert talk.ask("Hello!") == before


def test_a_conversation_is_saved_as_a_row_to_train_on(tuned: tuple[Conversation, Speakers]) -> None:
    talk, speakers = tuned
    said: list[str] = []
    mine = speakers.folder.root / "my rows.jsonl"
    mine.write_text("{}")  # as an editor leaves it that ends no line
    question = ["One \\", "line", '"""', "Two", "lines", '"""']
    lines = iter(["/save", "/system Be brief.", *question, "/save", f"/save {mine}", "/quit"])
    chat(talk, Saying(said), lambda prompt="": next(lines), speakers)
    assert said[1] == "There is nothing to save yet"
    assert said[3].startswith("Saved as a row of ") and "chat.jsonl; train on it with: " in said[3]
    assert said[4].endswith("my rows.jsonl'")
    (row,) = (speakers.folder.root / "chat.jsonl").read_text(encoding="utf-8").splitlines()
    assert mine.read_text(encoding="utf-8").splitlines() == ["{}", row]
    turns = [(turn["role"], turn["content"]) for turn in json.loads(row)["messages"]]
    assert turns[0] == ("system", "Be brief.")
    assert [content for role, content in turns if role == "user"] == ["One \nline", "Two\nlines"]
    assert [role for role, _ in turns[1:]] == ["user", "assistant"] * 2


@pytest.mark.parametrize(
    ("lines", "question"),
    [
        (['"""', "Two", "lines"], "Two\nlines"),
        (["Two\\", "lines\\"], "Two\nlines"),
        ([' """', "Two", "", "lines", '""" '], "Two\n\nlines"),
    ],
)
def test_a_question_that_the_end_of_the_input_ends_is_asked(
    monkeypatch: pytest.MonkeyPatch, talk: Conversation, lines: list[str], question: str
) -> None:
    typed(monkeypatch, talk, *lines)
    assert [turn.content for turn in talk.turns][:1] == [question]


def test_help_lists_every_command(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    said = typed(monkeypatch, talk, "/help", "/base", "/save")
    assert [line.split()[0] for line in said[1 : len(COMMANDS) + 1]] == [row.name for row in COMMANDS]
    assert "Only one model speaks here" in said
