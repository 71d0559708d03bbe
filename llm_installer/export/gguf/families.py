"""The families that can be written: what the file says of the model, how its weights are laid out, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llm_installer.export.gguf.facts import Facts, Values
from llm_installer.export.gguf.layout import Layout, by_kind, paired_keys, paired_queries, plus_one, turned
from llm_installer.export.gguf.rope import kind_of, problems, rope_of, scaling

_GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")


@dataclass(frozen=True)
class Family:
    """One architecture of llama.cpp."""

    arch: str
    values: Callable[[Facts], Values]
    """Metadata without the name of the architecture before it."""
    problems: Callable[[Facts], Iterator[str]]
    """Why a model of it cannot be written, each as the end of a sentence."""
    layouts: tuple[tuple[str, Layout], ...] = ()
    """Patterns that the names of tensors in the file contain, and what is done to these."""
    output: str = ""
    """`own` where the file must have an output layer, `tied` where it must have none."""
    whole: bool = False
    """Whether transformers makes the same model of the file alone; else its tensors are put into one of our config."""


def _decoder(facts: Facts, rope: Facts) -> Values:
    """What all but GPT-2 and GPT-NeoX have."""
    return {
        "context_length": context_of(facts),
        "embedding_length": facts.width,
        "block_count": facts.layers,
        "feed_forward_length": facts.whole("intermediate_size"),
        "attention.head_count": facts.heads,
        "attention.head_count_kv": facts.kv_heads,
        "attention.key_length": facts.head_dim,
        "attention.value_length": facts.head_dim,
        "attention.layer_norm_rms_epsilon": facts.number("rms_norm_eps"),
        "rope.dimension_count": _turned_size(facts, rope),
        "rope.freq_base": rope.number("rope_theta", 10000.0),
        "vocab_size": facts.whole("vocab_size"),
        **scaling(rope),
    }


def context_of(facts: Facts) -> int:
    """How far the model reads; of Mistral and Phi-3 llama.cpp does not read the window, up to which it is equal."""
    longest = facts.whole("max_position_embeddings")
    windowed = facts.get("model_type") in ("mistral", "phi3") and facts.get("sliding_window")
    return min(longest, facts.whole("sliding_window")) if windowed else longest


def _turned_size(facts: Facts, rope: Facts) -> int:
    return int(facts.head_dim * rope.number("partial_rotary_factor", facts.number("partial_rotary_factor", 1.0)))


def _plain(facts: Facts) -> Values:
    return _decoder(facts, rope_of(facts))


def _plain_problems(facts: Facts) -> Iterator[str]:
    yield from _activation(facts, "hidden_act", ("silu",))
    yield from problems(rope_of(facts))


def _activation(facts: Facts, name: str, known: tuple[str, ...]) -> Iterator[str]:
    if facts.get(name) not in known:
        yield f"its activation is {facts.get(name)!r}, and that architecture has {known[0]}"


def _llama_problems(facts: Facts) -> Iterator[str]:
    yield from _plain_problems(facts)
    if _turned_size(facts, rope_of(facts)) != facts.head_dim:
        yield "only a part of each head is turned by its rotary positions"
    if facts.head_dim % 2:
        yield "its heads have an odd size"


def _qwen_problems(facts: Facts) -> Iterator[str]:
    yield from _plain_problems(facts)
    if facts.get("use_sliding_window"):
        yield "it reads through a sliding window, which llama.cpp does not do for this architecture"
    if facts.get("model_type") == "qwen3" and facts.get("attention_bias"):
        yield "its attention has biases, which llama.cpp does not read for this architecture"


def _gemma_problems(facts: Facts) -> Iterator[str]:
    yield from _activation(facts, "hidden_activation", ("gelu_pytorch_tanh",))
    gemma2 = facts.get("model_type") == "gemma2"
    largest = facts.layers == (46 if gemma2 else 62)
    expected = facts.width / facts.heads if largest else facts.head_dim
    if facts.number("query_pre_attn_scalar") != expected:
        yield (
            f"config.json says query_pre_attn_scalar = {facts.number('query_pre_attn_scalar'):g}, and llama.cpp "
            f"computes with {expected:g}"
        )
    period = 2 if gemma2 else 6
    usual = ["full_attention" if number % period == 0 else "sliding_attention" for number in range(1, facts.layers + 1)]
    if facts.get("layer_types") != usual:
        yield f"not every {'second' if gemma2 else 'sixth'} layer of it reads all of the context"
    if facts.get("attention_bias") or facts.get("use_bidirectional_attention"):
        yield "its attention is not the usual one of this architecture"


def _gemma2(facts: Facts) -> Values:
    return _plain(facts) | {
        "attention.sliding_window": facts.whole("sliding_window"),
        "attn_logit_softcapping": facts.number("attn_logit_softcapping"),
        "final_logit_softcapping": facts.number("final_logit_softcapping"),
    }


def _gemma2_problems(facts: Facts) -> Iterator[str]:
    yield from _gemma_problems(facts)
    yield from problems(rope_of(facts), ("default",))
    if not facts.get("attn_logit_softcapping") or not facts.get("final_logit_softcapping"):
        yield "it has no soft caps, and llama.cpp computes with them"


def _gemma3(facts: Facts) -> Values:
    return _decoder(facts, rope_of(facts, "full_attention")) | {
        "attention.sliding_window": facts.whole("sliding_window"),
        "rope.freq_base_swa": rope_of(facts, "sliding_attention").number("rope_theta", 10000.0),
    }


def _gemma3_problems(facts: Facts) -> Iterator[str]:
    yield from _gemma_problems(facts)
    yield from problems(rope_of(facts, "full_attention"), ("default", "linear"))
    yield from problems(rope_of(facts, "sliding_attention"), ("default",))
    if facts.get("attn_logit_softcapping") or facts.get("final_logit_softcapping"):
        yield "it has soft caps, which llama.cpp does not read for this architecture"


def _phi3_problems(facts: Facts) -> Iterator[str]:
    yield from _activation(facts, "hidden_act", ("silu",))
    yield from problems(rope_of(facts), ("default",))


def _gpt2(facts: Facts) -> Values:
    return {
        "context_length": facts.whole("n_positions"),
        "embedding_length": facts.width,
        "block_count": facts.layers,
        "feed_forward_length": facts.whole("n_inner", 4 * facts.width),
        "attention.head_count": facts.heads,
        "attention.layer_norm_epsilon": facts.number("layer_norm_epsilon"),
        "vocab_size": facts.whole("vocab_size"),
    }


def _gpt2_problems(facts: Facts) -> Iterator[str]:
    yield from _activation(facts, "activation_function", ("gelu_new", *_GELU))
    if facts.get("scale_attn_by_inverse_layer_idx") or facts.get("scale_attn_weights") is False:
        yield "its attention is scaled in an unusual way, which llama.cpp does not read"


def _neox(facts: Facts) -> Values:
    rope = rope_of(facts)
    return {
        "context_length": facts.whole("max_position_embeddings"),
        "embedding_length": facts.width,
        "block_count": facts.layers,
        "feed_forward_length": facts.whole("intermediate_size"),
        "attention.head_count": facts.heads,
        "attention.layer_norm_epsilon": facts.number("layer_norm_eps"),
        "use_parallel_residual": bool(facts.get("use_parallel_residual", True)),
        "rope.dimension_count": _turned_size(facts, rope),
        "rope.freq_base": rope.number("rope_theta", 10000.0),
        "vocab_size": facts.whole("vocab_size"),
        **scaling(rope),
    }


def _neox_problems(facts: Facts) -> Iterator[str]:
    yield from _activation(facts, "hidden_act", _GELU)
    yield from problems(rope_of(facts), ("default", "linear", "yarn"))
    if facts.get("attention_bias") is False:
        yield "its attention has no biases, which llama.cpp needs for this architecture"


_PAIRED = ((".attn_q.", paired_queries), (".attn_k.", paired_keys))
_PLUS_ONE = (("norm.weight", plus_one),)
_CONV1D = tuple((f".{name}.weight", turned) for name in ("attn_qkv", "attn_output", "ffn_up", "ffn_down"))
_LLAMA = Family("llama", _plain, _llama_problems, _PAIRED, whole=True)
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Family("qwen2", _plain, _qwen_problems, whole=True),
    "qwen3": Family("qwen3", _plain, _qwen_problems),
    "gemma2": Family("gemma2", _gemma2, _gemma2_problems, _PLUS_ONE, output="tied"),
    "gemma3_text": Family("gemma3", _gemma3, _gemma3_problems, _PLUS_ONE, output="tied"),
    "phi3": Family("phi3", _plain, _phi3_problems),
    "gpt2": Family("gpt2", _gpt2, _gpt2_problems, _CONV1D),
    "gpt_neox": Family("gptneox", _neox, _neox_problems, ((".attn_qkv.", by_kind),), output="own"),
}
"""By the model_type of config.json."""


def alone(family: Family, facts: Facts) -> bool:
    """Whether transformers makes the same model of the file alone: what it does not read has its usual value."""
    usual = facts.head_dim * facts.heads == facts.width or family.arch == "llama"
    odd = facts.get("attention_bias") or facts.get("mlp_bias") or kind_of(rope_of(facts)) != "default"
    return family.whole and usual and not odd
