"""A conversation in the terminal: lines that are questions, and lines that begin with a slash, which are commands."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.cli.echo import stream
from llm_installer.cli.line_editor import BLOCK, Ask, interactive, read_line, whole_question
from llm_installer.core.errors import DiskError, ModelError, UsageError
from llm_installer.core.files import append_line
from llm_installer.core.hints import script, typed
from llm_installer.core.text import counted, short_path, shortened

if TYPE_CHECKING:
    from llm_installer.core.voice import Voice
    from llm_installer.inference.chat import Conversation
    from llm_installer.inference.speakers import Speakers

_COMMAND = re.compile(r"/[A-Za-z]*")
"""What is meant for the program; other lines that begin with a slash are questions."""
HELP = "/help lists what you can type besides questions; /quit or Ctrl-D ends the chat."
SAVED = "chat.jsonl"


@dataclass
class Chat:
    """What commands act on."""

    conversation: Conversation
    voice: Voice
    speakers: Speakers | None = None
    """None where only one model can speak."""
    over: bool = False

    def ask(self, text: str) -> None:
        """Print an answer as it comes; Ctrl-C ends the answer, not the chat."""
        began, paced = time.monotonic(), False
        try:
            with spoken(self.voice) as on_text:
                self.conversation.ask(text, on_text)
        except KeyboardInterrupt:
            self.conversation.take_back()
        except UsageError as error:
            self.voice.line(str(error))
        else:
            paced = self._say_pace(time.monotonic() - began)
        if not paced:
            print(flush=True)

    def _say_pace(self, seconds: float) -> bool:
        """How fast the answer came, on the next line, where somebody watches. Returns whether it was said."""
        last = self.conversation.last
        if not (interactive() and last and last.tokens and seconds > 0):
            return False
        print(flush=True)
        self.voice.line(f"[{counted(last.tokens, 'token')}, {last.tokens / seconds:,.0f} a second]")
        return True


@dataclass(frozen=True)
class Command:
    """A row of the table of commands."""

    name: str
    takes: str
    does: str
    run: Callable[[Chat, str], None] = field(repr=False)


def _new(chat: Chat, text: str) -> None:
    chat.conversation.restart()
    chat.voice.line("Starting over.")


def _system(chat: Chat, text: str) -> None:
    talk = chat.conversation
    if not text:
        chat.voice.line(f"Instructions: {talk.system}" if talk.system else "There are no instructions.")
        return
    talk.restart(text)
    chat.voice.line("Starting over with these instructions.")


def _undo(chat: Chat, text: str) -> None:
    asked = [turn.content for turn in chat.conversation.turns if turn.role == "user"]
    undone = chat.conversation.undo()
    chat.voice.line(f"Forgotten: {shortened(asked[-1], 60)}" if undone else "There is nothing to forget.")


def _base(chat: Chat, text: str) -> None:
    _speak(chat, None)


def _tuned(chat: Chat, text: str) -> None:
    first = chat.speakers.first if chat.speakers else None
    if first is None:
        raise UsageError("This chat was started without an adapter; choose one with: /run last")
    _speak(chat, first)


def _run(chat: Chat, text: str) -> None:
    from llm_installer.runs.listing import find_run

    if not text:
        raise UsageError("Say which run, for example: /run last")
    _speak(chat, find_run(_speakers(chat).folder, text).adapter)


def _compare(chat: Chat, text: str) -> None:
    """The same question, after the same turns, to the base and to who speaks now or spoke at first."""
    speakers, talk = _speakers(chat), chat.conversation
    now = speakers.lora
    if not text:
        raise UsageError("Say what to ask, for example: /compare What is the capital of France?")
    if now is None and speakers.first is None:
        raise UsageError("There is only the base to ask; choose a run first, with: /run last")
    before = [*talk.turns]
    try:
        for lora in (None, now if now is not None else speakers.first):
            talk.assistant = speakers.use(lora)
            if lora and interactive():
                print(flush=True)
            chat.voice.line(f"{_words(chat)}:")
            chat.ask(text)
            talk.turns[:] = before
    finally:
        speakers.use(now)


def _save(chat: Chat, text: str) -> None:
    """The conversation as a training row."""
    talk = chat.conversation
    if not talk.turns:
        raise UsageError("There is nothing to save yet")
    root = _speakers(chat).folder.root
    file = Path(text).expanduser() if text else root / SAVED
    head = [{"role": "system", "content": talk.system}] if talk.system else []
    row = {"messages": [*head, *({"role": turn.role, "content": turn.content} for turn in talk.turns)]}
    append_line(file, f"{json.dumps(row, ensure_ascii=False)}\n".encode())
    chat.voice.line(f"Saved as a row of {short_path(file)}; train on it with: {script(root)} --data {typed(file)}")


def _help(chat: Chat, text: str) -> None:
    width = max(len(f"{row.name} {row.takes}") for row in COMMANDS)
    for row in COMMANDS:
        chat.voice.line(f"{f'{row.name} {row.takes}':{width}}  {row.does}")
    chat.voice.line(
        f"For a question of several lines, end each but the last with \\, or put {BLOCK} on a line before and after it."
    )
    chat.voice.line("Ctrl-C ends an answer, and the chat goes on.")


def _quit(chat: Chat, text: str) -> None:
    chat.over = True


COMMANDS = (
    Command("/new", "", "start a new conversation", _new),
    Command("/system", "TEXT", "start over with instructions for the model", _system),
    Command("/undo", "", "forget the last question and its answer", _undo),
    Command("/base", "", "let the base model answer, without an adapter", _base),
    Command("/tuned", "", "go back to the adapter that this chat began with", _tuned),
    Command("/run", "ID", "let another run answer: its id, a part of it, or last", _run),
    Command("/compare", "TEXT", "ask the base and the adapter the same, after all that was said", _compare),
    Command("/save", "[FILE]", f"add the conversation to FILE ({SAVED}) as a row to train on", _save),
    Command("/help", "", "show this", _help),
    Command("/quit", "", "end the chat, as Ctrl-D does; /exit too", _quit),
)
_BY_NAME = {row.name: row for row in COMMANDS} | {"/exit": COMMANDS[-1]}


def chat(conversation: Conversation, voice: Voice, ask: Ask = read_line, speakers: Speakers | None = None) -> None:
    """Read, answer, repeat, until the input ends."""
    now, warned = Chat(conversation, voice, speakers), False
    voice.line(HELP)
    while not now.over:
        try:
            text = whole_question(ask).strip()
        except EOFError:
            return voice.line("")
        except KeyboardInterrupt:
            if warned:
                return voice.line("")
            warned = True
            voice.line("Ctrl-C once more ends the chat, as /quit does.")
            continue
        warned = False
        _obey(now, text)


def _obey(chat: Chat, text: str) -> None:
    """Do what a line says."""
    name, _, rest = text.partition(" ")
    command = _BY_NAME.get(name.lower())
    if command is None and _COMMAND.fullmatch(text):
        return chat.voice.line(f"There is no command {name}. {HELP}")
    if command is None:
        return chat.ask(text) if text else None
    try:
        command.run(chat, rest.strip())
    except (UsageError, ModelError, DiskError) as error:
        chat.voice.line(str(error))
    if chat.speakers:
        chat.conversation.assistant = chat.speakers.assistant


def _speakers(chat: Chat) -> Speakers:
    if chat.speakers is None:
        raise UsageError("Only one model speaks here")
    return chat.speakers


def _speak(chat: Chat, lora: Path | None) -> None:
    """From now on this adapter answers, or the base; the conversation stays."""
    speakers = _speakers(chat)
    with chat.voice.waiting("Changing the adapter"):
        chat.conversation.assistant = speakers.use(lora)
    chat.voice.line(f"Now answering: {_words(chat)}.")


def _words(chat: Chat) -> str:
    return chat.conversation.assistant.adapter or chat.conversation.assistant.merged or "the base model"


@contextmanager
def spoken(voice: Voice) -> Iterator[Callable[[str], None]]:
    """Prints each piece of an answer; until the first one is there, it is seen that the model is at work."""
    with ExitStack() as waiting:
        waiting.enter_context(voice.waiting("Reading the question"))

        def on_text(piece: str) -> None:
            waiting.close()
            stream(piece)

        yield on_text
