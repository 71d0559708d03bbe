"""Where tokens lie, told from the vocabulary: as the tokenizer says, or not at all."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from llm_installer.data.encoding.chat import Rendered
from llm_installer.data.encoding.lengths import lengths_of, placed
from llm_installer.data.encoding.spans import token_spans

WORDS = "the quick brown fox says hello\n\nto the lazy dog: hello,  hello \n end 1234 don't\n"


def backend() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [WORDS * 20], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([AddedToken("<|end|>", normalized=False)])
    return made


def changed(name: str, value: object) -> Tokenizer:
    made = backend()
    setattr(made, name, value)
    return made


CUTS = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(r"\\d{1,3}| ?[a-z]+"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
)
KNOWN: dict[str, Callable[[], Tokenizer]] = {
    "plain": backend,
    "composes": lambda: changed("normalizer", normalizers.NFC()),
    "splits": lambda: changed("pre_tokenizer", CUTS),
    "untrimmed": lambda: changed("post_processor", processors.ByteLevel(trim_offsets=False)),
}
UNKNOWN: dict[str, Callable[[], Tokenizer]] = {
    "lower case": lambda: changed("normalizer", normalizers.Lowercase()),
    "prefix space": lambda: changed("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "no bytes": lambda: changed("pre_tokenizer", pre_tokenizers.Whitespace()),
    "loses some": lambda: changed(
        "pre_tokenizer",
        pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(False)]),
    ),
    "trimmed": lambda: changed("post_processor", processors.ByteLevel(trim_offsets=True)),
    "words": lambda: Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")),
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_they_lie_where_the_tokenizer_says(name: str) -> None:
    made = KNOWN[name]()
    lengths = lengths_of(made)
    assert lengths is not None
    chance = random.Random(0)
    texts = []
    for _ in range(300):
        text = "".join(chance.choices([*WORDS.split(" "), " ", "  ", "<|end|>", "\t", "\x00"], k=12))
        # Half of them where tokens begin.
        starts = [start for start, _ in made.encode(text, add_special_tokens=False).offsets]
        places = starts if chance.random() < 0.5 else range(len(text) + 1)
        edges = sorted(chance.sample(places, min(chance.choice([2, 4]), len(places) // 2 * 2)))
        texts.append(Rendered(text, tuple(zip(edges[::2], edges[1::2], strict=True))))
    encoded = made.encode_batch([t.text for t in texts], add_special_tokens=False)
    found = placed(made.encode_batch_fast([t.text for t in texts], add_special_tokens=False), lengths, texts)
    expected = [token_spans(tokens, text.learned) for tokens, text in zip(encoded, texts, strict=True)]
    assert [known.learned if known else None for known in found] == expected
    assert [known.ids for known in found if known] == [
        tokens.ids for tokens, spans in zip(encoded, expected, strict=True) if spans is not None
    ]
    assert 50 < sum(spans is None for spans in expected) < 250


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_nothing_is_told_of_tokenizers_that_change_texts(name: str) -> None:
    assert lengths_of(UNKNOWN[name]()) is None


def test_a_token_that_takes_the_space_beside_it_is_noticed() -> None:
    made = backend()
    made.add_special_tokens([AddedToken("<|wide|>", lstrip=True, rstrip=True)])
    lengths = lengths_of(made)
    assert lengths is not None
    texts = [Rendered("hello <|wide|> fox", ((15, 18),)), Rendered("hello fox", ((5, 9),)), Rendered("", ())]
    wide, plain, empty = placed(made.encode_batch_fast([t.text for t in texts]), lengths, texts)
    assert wide is None
    assert plain is not None and len(plain.learned) == 1
    assert empty is not None and empty.ids == []
