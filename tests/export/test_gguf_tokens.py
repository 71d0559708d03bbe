"""The tokenizer in a GGUF file: known by its structure, equal to the model's by llama.cpp's rules, else refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llm_installer.core.errors import ModelError
from llm_installer.core.model_info import read_model_info
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.processor import load_encoder
from llm_installer.export.gguf.pre_tokenizers import PRES, find_pre, pieces, spelled
from llm_installer.export.gguf.probes import texts
from llm_installer.export.gguf.template import KEY, difference, without_generation
from llm_installer.export.gguf.tokens import BYTE, CONTROL, UNKNOWN, UNUSED, USER_DEFINED, FileTokens
from llm_installer.export.gguf.vocabulary import COMPOSED, other_tokens, probes, vocabulary
from llm_installer.install.tiny import MODEL_DIR
from tests.export.gguf_models import tokenizer_with
from tests.generated import many

DIGITS3 = PRES[2].structure[0]
SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
CUTS = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def split_by(expression: str) -> dict[str, object]:
    return {"type": "Sequence", "pretokenizers": [SPLIT | {"pattern": {"Regex": expression}}, BYTES]}


def encoder_of(folder: Path) -> Encoder:
    """An encoder with the tokenizer in this folder, without a model."""
    return Encoder(AutoTokenizer.from_pretrained(folder))


@pytest.fixture(scope="module")
def stories(shared: Path) -> Encoder:
    return load_encoder(read_model_info(shared / "models" / "stories260K"))


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return load_encoder(read_model_info(MODEL_DIR))


def test_scores_are_the_ranks_of_merges(stories: Encoder) -> None:
    values = vocabulary(stories, 512).values
    assert len(probes(stories)) == 200
    assert other_tokens(stories.tokenizer, values, probes(stories)) == ()
    assert values["tokenizer.ggml.model"] == "llama" and values["tokenizer.ggml.add_space_prefix"] is True
    lost = values | {"tokenizer.ggml.scores": [-1000.0] * 512}
    assert len(other_tokens(stories.tokenizer, lost, probes(stories))) > 50
    bare = values | {"tokenizer.ggml.add_space_prefix": False}
    assert len(other_tokens(stories.tokenizer, bare, probes(stories))) > 100


def test_types_and_ends_of_a_model_with_bytes(stories: Encoder) -> None:
    values = vocabulary(stories, 515).values
    types, tokens = values["tokenizer.ggml.token_type"], values["tokenizer.ggml.tokens"]
    assert isinstance(types, list) and isinstance(tokens, list)
    assert types[:3] == [UNKNOWN, CONTROL, CONTROL] and types.count(BYTE) == 256
    assert tokens[512:] == ["[PAD512]", "[PAD513]", "[PAD514]"] and types[512:] == [UNUSED] * 3
    ends = {name: values.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "unknown", "eot")}
    assert ends == {"bos": 1, "eos": 2, "unknown": 0, "eot": 1}  # generation_config.json names 1 as an end, too
    assert values["tokenizer.ggml.add_bos_token"] is True and values["tokenizer.ggml.add_eos_token"] is False
    assert KEY not in values  # it has no template of its own


def test_the_built_in_model_is_gpt2_and_begins_with_nothing(tiny: Encoder) -> None:
    values = vocabulary(tiny, 2048).values
    assert (values["tokenizer.ggml.model"], values["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert values["tokenizer.ggml.add_bos_token"] is False and "tokenizer.ggml.bos_token_id" not in values
    assert (values["tokenizer.ggml.eos_token_id"], values["tokenizer.ggml.padding_token_id"]) == (2, 0)
    assert other_tokens(tiny.tokenizer, values, probes(tiny)) == ()
    unmerged = values | {"tokenizer.ggml.merges": []}
    assert len(other_tokens(tiny.tokenizer, unmerged, probes(tiny))) > 100
    plain = values | {"tokenizer.ggml.token_type": [1] * 2048}
    assert other_tokens(tiny.tokenizer, plain, probes(tiny))  # specials would be read as text
    prompt = tiny.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert FileTokens(values).ids(str(prompt)) == tiny.tokenizer(str(prompt))["input_ids"]


def test_any_text_has_the_same_tokens(stories: Encoder, tiny: Encoder) -> None:
    """Beyond the texts of the receipt, in both of llama.cpp's ways."""
    both = [(each, FileTokens(vocabulary(each, len(each.tokenizer.get_vocab())).values)) for each in (stories, tiny)]

    @settings(max_examples=many(60), deadline=None)
    @given(st.text(max_size=40))
    def same(text: str) -> None:
        for encoder, file in both:
            assert file.ids(text) == list(encoder.tokenizer(text)["input_ids"])

    same()


@pytest.mark.parametrize(
    ("pre", "model", "name"),
    [
        ({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, CUTS]}, {}, "smollm"),
        (split_by(DIGITS3), {"ignore_merges": True}, "llama-bpe"),
        (split_by(DIGITS3), {}, "smaug-bpe"),
        (split_by(PRES[4].structure[0]), {}, "qwen2"),
        (split_by(PRES[5].structure[0]), {}, "qwen35"),
    ],
)
def test_a_name_is_found_by_structure_and_proven(
    pre: dict[str, object], model: dict[str, object], name: str, tmp_path: Path
) -> None:
    encoder = encoder_of(tokenizer_with(tmp_path, pre_tokenizer=pre, model=model))
    values = vocabulary(encoder, 2048).values
    assert values["tokenizer.ggml.pre"] == name
    assert other_tokens(encoder.tokenizer, values, texts(["<|im_end|>"])) == ()
    own = find_pre(pre, bool(model)).expressions
    for other in PRES:
        same = all(pieces(own, text) == pieces(other.expressions, text) for text in texts())
        assert same is (other.expressions == own), other.name


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"pre_tokenizer": split_by(r"\w+|\W+")}, "none of those which can be written"),
        ({"pre_tokenizer": CUTS | {"add_prefix_space": True}}, "none of those which can be written"),
        ({"pre_tokenizer": None}, "none of those which can be written"),
        ({"pre_tokenizer": CUTS, "model": {"ignore_merges": True}}, "ignore_merges = True"),
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"model": {"byte_fallback": True}}, "ByteLevel"),
        ({"model": {"byte_fallback": True}, "pre_tokenizer": None}, "no mark for spaces"),
    ],
)
def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(
    parts: dict[str, object], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=why):
        vocabulary(encoder_of(tokenizer_with(tmp_path, **parts)), 2048)


REPLACED = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
BY_SPACES = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def changed(stories: Encoder, folder: Path, **parts: object) -> Encoder:
    """The tokenizer of the stories with other parts of tokenizer.json."""
    stories.tokenizer.save_pretrained(folder)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | parts), encoding="utf-8")
    return encoder_of(folder)


def test_spaces_as_gemma_has_them(stories: Encoder, tmp_path: Path) -> None:
    encoder = changed(stories, tmp_path, normalizer=REPLACED, pre_tokenizer=BY_SPACES)
    values = vocabulary(encoder, 512).values
    assert values["tokenizer.ggml.add_space_prefix"] is False
    assert other_tokens(encoder.tokenizer, values, probes(encoder)) == ()


def test_what_differs_only_in_tokens_is_refused_before_a_weight_is_read(stories: Encoder, tmp_path: Path) -> None:
    """A space only before the first word of all: llama.cpp puts one behind each special token."""
    first = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    with pytest.raises(ModelError, match=r"makes other tokens of \d+ of 200 texts than llama\.cpp would"):
        vocabulary(changed(stories, tmp_path, normalizer=None, pre_tokenizer=first), 512)


def test_an_expression_that_only_looks_the_same_is_refused(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_installer.export.gguf import pre_tokenizers

    wrong = [
        each if each.name != "gpt-2" else PRES[1].__class__("gpt-2", PRES[1].expressions, each.structure)
        for each in PRES
    ]
    monkeypatch.setattr(pre_tokenizers, "PRES", tuple(wrong))
    with pytest.raises(ModelError, match="looks like gpt-2, but cuts"):
        vocabulary(tiny, 2048)


def test_decomposed_text_is_said(tmp_path: Path) -> None:
    encoder = encoder_of(tokenizer_with(tmp_path, normalizer={"type": "NFC"}))
    assert vocabulary(encoder, 2048).notes == (COMPOSED,)


def test_tokens_beyond_the_embedding_are_left_out_and_plain_ones_are_named(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    tokenizer.add_tokens(["<plain>", "<beyond>"])
    tokenizer.save_pretrained(tmp_path)
    values = vocabulary(encoder_of(tmp_path), 2049).values
    tokens, types = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, list)
    assert (len(tokens), tokens[-1], types[-1]) == (2049, "<plain>", USER_DEFINED)


def test_pieces_are_the_whole_text() -> None:
    for pre in PRES:
        assert all("".join(pieces(pre.expressions, text)) == text for text in texts())
    assert spelled(" a\n") == "\u0120a\u010a"


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{%- if m.role == 'assistant' -%} {%- generation -%} {{ m.content }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_without_its_tags_for_trainers_says_the_same(tiny: Encoder) -> None:
    copy = without_generation(TEMPLATE)
    assert "generation %" not in copy and "generation -" not in copy and "add_generation_prompt" in copy
    assert difference(tiny.tokenizer, TEMPLATE, copy) == ""
    assert difference(tiny.tokenizer, TEMPLATE, copy.replace("<|im_end|>\n", "<|im_end|>", 1)) != ""
