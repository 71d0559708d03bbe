"""Parts of a server that need no server: calls read out of answers, bytes of tokens, the mailbox, vLLM's command."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llm_installer.core.errors import InstallerError, UsageError
from llm_installer.core.examples import Message
from llm_installer.core.files import write_json
from llm_installer.core.paths import ModelDir
from llm_installer.data.encoding.call_forms import CallForm, Tools, call_form
from llm_installer.data.encoding.encode import Encoder
from llm_installer.inference.engine.request import Done, Piece, Token
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.server import vllm
from llm_installer.server.answers import Answer, Forms, Tooling
from llm_installer.server.mailbox import Mailbox
from llm_installer.server.preparing import _tool_choice, read_chat
from llm_installer.server.request import ServeRequest, check
from llm_installer.server.token_bytes import TokenBytes
from llm_installer.server.voices import continued
from tests.made_runs import make_run
from tests.server.conftest import TOOLS_TEMPLATE

HERMES = CallForm("<tool_call>\n", None, "\n</tool_call>", {})
BARE = CallForm("", None, "<|eot_id|>", {})
NAMED = CallForm(" to=functions.", "<|channel|>commentary json<|message|>", "<|call|>", {})
CALL = '{"name": "f", "arguments": {"a": 1}}'


KNOWN: Tools = {"f": {}, "g": {}}


def names(form: CallForm, text: str, known: Tools = KNOWN) -> tuple[str, list[object]]:
    said, calls = form.read(text, known)
    return said, [(call["function"]["name"], call["function"]["arguments"]) for call in calls]  # type: ignore[index]


@pytest.mark.parametrize(
    ("form", "text", "said", "calls"),
    [
        (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", "", [("f", {"a": 1})]),
        (HERMES, f"Wait.\n<tool_call>{CALL}</tool_call>\n<tool_call>\n{CALL}", "Wait.", [("f", {"a": 1})] * 2),
        (HERMES, "<tool_call>\n{nothing}", "<tool_call>\n{nothing}", []),
        (HERMES, "<tool_call>" + "[" * 5000, "<tool_call>" + "[" * 5000, []),
        (HERMES, CALL, CALL, []),
        (BARE, CALL, "", [("f", {"a": 1})]),
        (BARE, '{"name": "f", "parameters": {"a": 1}}', "", [("f", {"a": 1})]),
        (BARE, f"So:\n[{CALL}]", "So:", [("f", {"a": 1})]),
        (BARE, '{"name": "stranger", "arguments": {}}', '{"name": "stranger", "arguments": {}}', []),
        (BARE, '{"colour": "red"}', '{"colour": "red"}', []),
        (NAMED, ' to=functions.f<|channel|>commentary json<|message|>{"a": 1}<|call|>', "", [("f", {"a": 1})]),
    ],
)
def test_calls_in_an_answer(form: CallForm, text: str, said: str, calls: list[object]) -> None:
    assert names(form, text) == (said, calls)


@given(
    before=st.text(alphabet="ab <{[\n", max_size=8),
    cuts=st.lists(st.integers(0, 60)),
    form=st.sampled_from([HERMES, BARE, NAMED]),
)
def test_pieces_of_an_answer_show_what_the_whole_says(before: str, cuts: list[int], form: CallForm) -> None:
    head = f"{form.before}f{form.between}" if form.between else form.before
    text = before + head + ('{"a": 1}' if form.between else CALL) + form.after
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    answer = Answer(0, 0, Forms(Tooling(form, {"f": {}})))
    shown = "".join(answer.add(text[a:b]).text for a, b in pairwise(places))
    shown += answer.end("stop", 1).text
    said, calls = form.read(text, {"f": {}})
    assert answer.calls == calls and shown.startswith(said)
    assert shown.rstrip() == said.rstrip()


@pytest.mark.parametrize(("more", "several"), [("", True), (', "parallel_tool_calls": false', False)])
def test_calls_one_at_a_time_where_that_is_asked_for(more: str, several: bool) -> None:
    tools = '[{"type": "function", "function": {"name": "f"}}]'
    body = f'{{"model": "m", "messages": [1], "tools": {tools}{more}}}'
    assert _tool_choice(read_chat(body.encode())).several is several


def test_the_form_of_calls_is_found_out_from_the_template() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    plain = call_form(Encoder(tokenizer).template)
    assert plain is not None and plain.mark == ""  # as training writes calls for a template without them
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    tokenizer.chat_template = TOOLS_TEMPLATE
    form = call_form(Encoder(tokenizer).template)
    assert form is not None and (form.before, form.between, form.after) == ("<tool_call>\n", None, "\n</tool_call>")


@given(st.text(max_size=40))
def test_the_bytes_of_tokens_are_those_of_their_text(text: str) -> None:
    tokenizer, known = _tokenizer()
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert b"".join(map(known.of, ids)).decode().removeprefix(" ") == text.removeprefix(" ")


def _tokenizer(made: list[object] = []) -> tuple[object, TokenBytes]:  # noqa: B006  read once
    if not made:
        tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        made += [tokenizer, TokenBytes(tokenizer)]
    return made[0], made[1]  # type: ignore[return-value]


def test_bytes_of_a_sentencepiece_vocabulary(shared: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "stories260K")
    known = TokenBytes(tokenizer)
    for text in ("Once upon a time", "naïve 日本 🙂", "two  spaces"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert b"".join(map(known.of, ids)).decode().removeprefix(" ") == text


def test_a_plain_text_model_continues_the_whole_conversation() -> None:
    turns = [Message("user", "Once"), Message("assistant", " upon a time."), Message("user", "Then")]
    assert continued(turns) == "Once upon a time.\nThen"


def test_a_mailbox_is_bounded_and_keeps_the_end() -> None:
    async def told() -> tuple[int, bool, list[object]]:
        box = Mailbox(most=3)
        hear = box.listener(0)
        for _ in range(5):
            hear(Piece(0, "a", (Token(1),)))
        hear(Done(0, "stop", 5))
        mail = await box.take()
        return len(mail), box.overflown, await box.take(0.01)

    assert asyncio.run(told()) == (4, True, [])


def test_a_cancelled_wait_is_cancelled_even_when_something_comes() -> None:
    """asyncio.wait_for would go on, and with it the answers of a client that has left."""

    async def cancelled() -> bool:
        box = Mailbox()
        waiting = asyncio.ensure_future(box.take(60))
        await asyncio.sleep(0)
        box.listener(0)(Piece(0, "a", ()))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        return waiting.cancelled()

    assert asyncio.run(cancelled())


def run_with(folder: ModelDir, name: str, template: str = "", **config: object) -> None:
    made = make_run(folder, name, 1e-3)
    write_json(made.adapter / "adapter_config.json", {"peft_type": "LORA", "r": 4, "bias": "none", **config})
    if template:
        (made.adapter / vllm.TEMPLATE).write_text(template)


def test_the_command_of_vllm(installed: Path) -> None:
    folder = ModelDir(installed)
    run_with(folder, "20260101-100000-full", r=12, template="T")
    run_with(folder, "20260102-100000-full", r=4, template="T")
    run_with(folder, "20260103-100000-full", rank_pattern={"q_proj": 8})
    run_with(folder, "20260104-100000-full", use_dora=True)
    modules, notes, template = vllm.looked_at(folder)
    words = vllm.command(folder, ServeRequest(api_key="k", port=9), modules, template)
    text = " ".join(words)
    assert "--max-lora-rank" not in text, "16 is what vLLM takes by itself"
    assert "--max-loras 2" in text and "--port 9" in text
    assert words[words.index("--lora-modules") + 1].endswith("20260101-100000-full/adapter")
    assert words[words.index("--chat-template") + 1].endswith(vllm.TEMPLATE)
    assert "rank_pattern" in notes[0] and "DoRA" in notes[1] and len(notes) == 2
    launch = vllm.prepared(folder, ServeRequest(api_key="s3cret"))
    assert launch.key == "s3cret" and "s3cret" not in " ".join([*launch.shown, *launch.words])
    assert launch.shown[:2] == ["VLLM_API_KEY=***", "vllm"]
    with pytest.raises(UsageError, match="leave out --use-4bit"):
        check(ServeRequest(engine="vllm", quantised="nf4"))
    for name, value in (("queue", 9), ("cache_gib", 1.5), ("max_tokens", 5)):
        with pytest.raises(UsageError, match=f"^vLLM has limits of its own .*; leave out --{name.replace('_', '-')}$"):
            check(ServeRequest(engine="vllm", **{name: value}))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^A vLLM serves one base"):
        check(ServeRequest(engine="vllm"), models=2)
    with pytest.raises(InstallerError, match="vLLM is not installed"):
        vllm.become(launch)
    run_with(folder, "20260105-100000-full", template="other")
    with pytest.raises(UsageError, match="2 chat templates"):
        vllm.looked_at(folder)
