"""The end of text, the ids that a model knows, and the bounds of a chat template."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.examples import Example, Message, Origin
from llm_installer.core.model_info import read_model_info
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encoded import EncodedSet
from llm_installer.data.encoding.known_tokens import refuse_unknown_tokens
from llm_installer.data.encoding.processor import load_encoder

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
LOOP = "{% for i in range(100000) %}"
HOSTILE = {
    "loops": (LOOP * 3 + "{% endfor %}" * 3, "takes longer than 2 seconds"),
    "loops for long conversations": (
        "{% if messages | length > 3 %}" + LOOP * 3 + "{% endfor %}" * 3 + "{% endif %}", "takes longer than 2 seconds"
    ),
    "writes megabytes": ("{{ 'x' * 5000000 }}", "writes 5 MiB for one conversation"),
    "writes them in turns": (LOOP + "a line of text, as long as it is\n{% endfor %}", "writes 3 MiB"),
    "takes all memory": ("{{ 'x' | center(9000000000000) }}", "takes more than 512 MiB"),
    "doubles": (
        "{% set n = namespace(s='x' * 1000) %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        "takes more than 512 MiB",
    ),
    "a power": ("{{ 10 ** (10 ** 10) }}", "computes powers of numbers"),
    "calls itself": ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "maximum recursion depth"),
    "divides": ("{{ 1 // 0 }}", "does not work"),
    "reaches out": ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "does not work"),
    "is nested": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "does not work"),
    "is not finished": ("{% for", "does not work"),
}  # fmt: skip


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(CHATML, "utf-8")
    return folder


def change(file: Path, **more: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | more), "utf-8")


def encoder(folder: Path) -> Encoder:
    return load_encoder(read_model_info(folder))


@pytest.mark.parametrize("how", HOSTILE)
def test_a_template_has_bounds(how: str, model: Path) -> None:
    template, says = HOSTILE[how]
    (model / "chat_template.jinja").write_text(template + CHATML, "utf-8")
    start = time.process_time()
    with pytest.raises(InstallerError, match=says) as refused:
        made = encoder(model)
        made._render([{"role": "user", "content": "a"}] * 4)
    assert time.process_time() - start < 5 and "\n" not in str(refused.value)


def test_a_long_conversation_is_no_long_template(model: Path) -> None:
    assert len(encoder(model)._render([{"role": "user", "content": "word " * 1_000_000}])) > 5_000_000


@pytest.mark.parametrize("where", ["generation_config.json", "config.json", "template"])
def test_the_end_of_text_is_taken_from_where_it_is_named(where: str, model: Path) -> None:
    ends = encoder(model).eos
    change(model / "tokenizer_config.json", eos_token=None)
    for name in ("generation_config.json", "config.json"):
        change(model / name, eos_token_id=[ends, 5] if name == where else None)
    assert encoder(model).eos == ends


def test_without_any_end_of_text_it_is_said(model: Path) -> None:
    change(model / "tokenizer_config.json", eos_token=None)
    for name in ("generation_config.json", "config.json"):
        change(model / name, eos_token_id=None)
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}", "utf-8")
    with pytest.raises(ModelError, match="names no end-of-text token"):
        encoder(model)


def test_a_token_that_is_needed_must_be_known(model: Path) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text("utf-8"))
    known = read_model_info(model).vocab_size
    more = {"id": known, "content": "<|more|>", "special": True}
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | more)
    (model / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    made = encoder(model)  # nothing needs it
    example = Example((Message("user", "a"), Message("assistant", "b")), Origin("x"))
    row = made.encode(example)[0]
    refuse_unknown_tokens(EncodedSet.of([row]), made.tokenizer, read_model_info(model))
    row.ids[3] = known
    with pytest.raises(ModelError, match=rf"The data contains the token '<\|more\|>' with the id {known:,}"):
        refuse_unknown_tokens(EncodedSet.of([row]), made.tokenizer, read_model_info(model))
    (model / "chat_template.jinja").write_text(CHATML + "<|more|>", "utf-8")
    with pytest.raises(ModelError, match=r"has the token '<\|more\|>' with the id"):
        encoder(model)
