"""The chat template of a tokenizer: conversations to text, and which characters of it are supervised.

Spans come from rendering prefixes of the conversation, never from searching for a family's marker strings: the prompt
of a turn is what the template renders for inference, and the answer is what it renders beyond that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from llm_installer.core.examples import Example, Message
from llm_installer.data.encoding.adapting import adapt, thought_apart, thought_ends
from llm_installer.data.encoding.answers import Rendered, differing, ended, opening, same_for, together, unshown
from llm_installer.data.encoding.template_probes import PROBE, THOUGHT, CannotRender, Mode, Turns, find_abilities

DEFAULT_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] | capitalize + ':\n' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\n\n' }}"
    "{% endfor %}"
    "{{ '### Assistant:\n' if add_generation_prompt else '' }}"
)
"""For base models that come without one; stored with the adapter, so that chatting uses what training used."""


class Render(Protocol):
    """Turns, tool definitions and whether to open an answer, to text; in the template's usual mode where none is named.

    Raises CannotRender.
    """

    def __call__(self, turns: Turns, tools: object, generation: bool, mode: Mode | None = None) -> str: ...


class Template:
    """A chat template, and what was found out about it: roles it supports, how a turn ends."""

    def __init__(self, render: Callable[..., str], source: str, added_tokens: Sequence[str], eos: str) -> None:
        """Raises ModelError for a template that does not work."""
        self._render_raw = render
        self._added = tuple(sorted(added_tokens, key=len, reverse=True))
        self.source = source
        self.tools = "tools" in source
        self.can = find_abilities(self._rendered, added_tokens)
        self.mode = self.can.modes[0]
        self.thinks = False
        """Whether prompts leave it to the model to begin with a thought, where the template has a mode for that."""
        self.end = self.can.end
        """The text that closes an assistant turn; empty when the template has none and eos is appended."""
        self.stop = self.end or eos
        self.around = self._around()
        """What the template writes around the contents of a plain conversation."""
        self._opening = self._opened([{"role": "user", "content": PROBE}], None, self.render)
        self._eos = eos

    def prompt(self, messages: Sequence[Message], tools: str = "", render: Render | None = None) -> str:
        """What a model is sent to answer `messages`; `render` may replace the template's own.

        Raises CannotRender when the template refuses them.
        """
        turns, definitions = adapt(messages, tools, self.tools, self.can)
        return (render or self.render)(turns, definitions, True, self.can.thinking if self.thinks else None)

    def rows(self, example: Example, render: Render | None = None) -> list[Rendered]:
        """The training texts of a conversation; `render` may replace the template's own.

        One text for all turns that render the same in every later prompt, each beginning after what a model is sent to
        answer it. Raises CannotRender when the template refuses it.
        """
        turns, tools = adapt(example.messages, example.tools, self.tools, self.can)
        answers = [thought_apart(m, self.can) for m in example.messages if m.role == "assistant"]
        places = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
        learned = [(i, m) for i, m in zip(places, answers, strict=True) if i and m.supervised]
        if not learned:
            raise CannotRender("nothing comes before its only answer")
        if not all(thought_ends(message, self.can) for _, message in learned):
            raise CannotRender("an answer begins with a thought that does not end")
        found = [self._answer(turns, i, message, tools, render or self.render) for i, message in learned]
        return found if len(found) == 1 else together(found)

    def render(self, turns: Turns, tools: object, generation: bool, mode: Mode | None = None) -> str:
        """The text of these turns, and the opening of an answer where `generation`. Raises CannotRender."""
        text = self._rendered(turns, tools, generation, self.mode if mode is None else mode)
        # A thought that the template opens and its own answers never have would be the beginning of every answer.
        return text.removesuffix(self.can.unanswered) if generation else text

    def _rendered(self, turns: Turns, tools: object, generation: bool, mode: Mode) -> str:
        from jinja2 import TemplateError

        try:
            return self._render_raw(turns, tools=tools, add_generation_prompt=generation, **mode)
        except (TemplateError, TypeError, KeyError) as error:
            raise CannotRender(f"its chat template refuses the conversation ({error})") from None

    def _opened(self, turns: Turns, tools: object, render: Render) -> str:
        """What opens an answer to these turns; empty where the template does not render them without an answer."""
        try:
            return opening(render(turns, tools, True), render(turns, tools, False), self._added)
        except CannotRender:
            return ""

    def _around(self) -> str:
        """Two questions and an answer, without what they say."""
        turns: Turns = [{"role": role, "content": PROBE} for role in ("user", "assistant", "user")]
        try:
            return self._rendered(turns, None, True, self.mode).replace(PROBE, "")
        except CannotRender:
            return ""

    def _answer(self, turns: Turns, i: int, message: Message, tools: object, render: Render) -> Rendered:
        """The text up to the end of assistant turn `i`, with that turn's answer as the one supervised span."""
        prompt, answer = self._spoken(turns, i, tools, render)
        if self._opening and answer.startswith(self._opening):
            # Some open no answer after the result of a tool, and write the opening only when the answer is there.
            prompt, answer = prompt + self._opening, answer.removeprefix(self._opening)
        thought = message.reasoning_content
        if thought and self.can.removes_thoughts:
            # There is no other way to learn one.
            answer = THOUGHT.format(thought) + answer.lstrip()
        found = ended(prompt, answer, self.end, self._added, self._eos)
        learned = found.text[len(prompt) :]
        if not learned.removesuffix(self.end).strip():
            raise CannotRender("its chat template shows nothing of an answer")
        if not thought and not message.tool_calls and message.content.strip() in learned:
            return found
        return replace(found, unshown=tuple(unshown(message, learned, self.can.calls is not None)))

    def _spoken(self, turns: Turns, i: int, tools: object, render: Render) -> tuple[str, str]:
        """What a model is sent to answer with turn `i`, and how the template goes on when the turn is there."""
        for mode in (None, *self.can.modes[1:]):
            prompt = render(turns[:i], tools, True, mode)
            whole = render(turns[: i + 1], tools, False, mode)
            if whole.startswith(prompt):
                return prompt, whole[len(prompt) :]
        # It writes earlier turns in another way when this one is there: what opens an answer is found before the first
        # thing that depends on the answer.
        prompt, whole = render(turns[:i], tools, True), render(turns[: i + 1], tools, False)
        opened = self._opened(turns[:i], tools, render)
        other = render([*turns[:i], differing(turns[i])], tools, False)
        at = whole.rfind(opened, 0, same_for(whole, other)) if opened else -1
        if at < 0:
            raise CannotRender("its chat template does not show an answer where it asks for one")
        return prompt, whole[at + len(opened) :]
