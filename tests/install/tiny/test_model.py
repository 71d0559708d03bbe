"""The weights and the tokenizer of the built-in model, as any program would load them."""

import random
from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_installer.install.tiny import MODEL_DIR

PROMPTS = (
    "Hello!", "What is your name?", "Tell me a story about a fox.", "Who is the king of the moon?",
    "How many days has a week?",
    "Thank you.", "The boat is red. The cart is blue.\nWhat colour is the boat?", "Where does the baker live?",
    "Mira is the baker.\nWho bakes the bread?", "What can you do?",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture(scope="module")
def reply(tokenizer) -> Callable[[str], tuple[str, bool]]:  # type: ignore[no-untyped-def]
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)

    def answer(question: str) -> tuple[str, bool]:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        new = model.generate(**ids, max_new_tokens=200, do_sample=False)[0, ids["input_ids"].shape[1] :]  # type: ignore[misc]
        return tokenizer.decode(new, skip_special_tokens=True), bool(new[-1] == tokenizer.eos_token_id)

    return answer


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\n\n\t  x  \r\n", "Gr\u00fc\u00dfe, na\u00efve caf\u00e9",
        "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8",
        "\U0001f98a\U0001f3f3\ufe0f\u200d\U0001f308\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd", "a\u0000b\u200b\ufeff", "e\u0301 is not \u00e9",
        "1234567890 3.14", "def f(x):\n    return {'a': [x] * 2}", " lead and trail ", "can't , . ! ?",
    ],
)  # fmt: skip
def test_text_comes_back_as_it_was(tokenizer, text: str) -> None:  # type: ignore[no-untyped-def]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_random_text_comes_back_as_it_was(tokenizer) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(0)
    for _ in range(300):
        points = [
            rng.choice((rng.randrange(256), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000))) for _ in range(20)
        ]
        text = "".join(map(chr, points))
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_chat_template_renders_exactly(tokenizer) -> None:  # type: ignore[no-untyped-def]
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi\nyou"},
        {"role": "assistant", "content": "Hello."},
    ]
    expected = (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nHi\nyou<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n"
    )
    assert tokenizer.apply_chat_template(turns, tokenize=False) == expected
    opened = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert opened == expected + "<|im_start|>assistant\n"


def test_special_tokens(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<|im_end|>", "<|pad|>", None)
    assert tokenizer.encode("<|im_start|><|im_end|><|pad|>") == [
        tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>", "<|pad|>")
    ]


def test_it_stops_by_itself(reply: Callable[[str], tuple[str, bool]]) -> None:
    stopped = [reply(prompt)[1] for prompt in PROMPTS]
    assert sum(stopped) >= 0.9 * len(PROMPTS)


def test_it_reads_and_it_does_not_know(reply: Callable[[str], tuple[str, bool]]) -> None:
    assert "Mira" in reply("Mira is the baker.\nWho bakes the bread?")[0]
    assert "boat" in reply("The boat is red. The cart is blue.\nWhat colour is the boat?")[0]
    assert "fox" in reply("Tell me a story about a fox.")[0]
    assert "not" in reply("Who bakes the bread?")[0]
