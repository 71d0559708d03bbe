"""Models to begin with: small to middling, good at following instructions, with weights that many use. One row each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Curated:
    """A model that is worth trying."""

    name: str
    id: str
    size: str
    """Parameters."""
    why: str
    takes: str
    """What a training takes, roughly; the check says it for this machine."""
    gated: bool = False
    """Whether its licence must be accepted on the hub first."""


_FOUR_BITS = "GPU with 16 GB in 4 bits, or 24 GB"
CURATED = (
    Curated("tiny", "tiny", "2.9M", "Seeing how all of this works, without a network", "any machine, a minute"),
    Curated("SmolLM2 135M", "HuggingFaceTB/SmolLM2-135M-Instruct", "135M", "Short answers of one kind", "any laptop"),
    Curated("Qwen3 0.6B", "Qwen/Qwen3-0.6B", "0.6B", "Many languages; can think first", "a laptop, in hours"),
    Curated("Gemma 3 1B", "google/gemma-3-1b-it", "1B", "Texts in many languages", "GPU with 8 GB", True),
    Curated("TinyLlama 1.1B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "1.1B", "English; a classic", "GPU with 8 GB"),
    Curated("Llama 3.2 1B", "meta-llama/Llama-3.2-1B-Instruct", "1.2B", "Instructions", "GPU with 8 GB", True),
    Curated("Qwen3 1.7B", "Qwen/Qwen3-1.7B", "1.7B", "Many languages; can think first", "GPU with 8 GB"),
    Curated("SmolLM3 3B", "HuggingFaceTB/SmolLM3-3B", "3B", "Open from its data to its weights", "GPU with 12 GB"),
    Curated("Phi-4 mini", "microsoft/Phi-4-mini-instruct", "3.8B", "Reasoning and code", "GPU with 12 GB"),
    Curated("Qwen3 4B", "Qwen/Qwen3-4B-Instruct-2507", "4B", "The all-round choice", "GPU with 16 GB"),
    Curated("Gemma 3 4B", "google/gemma-3-4b-it", "4.3B", "Reads pictures, too", "GPU with 16 GB", True),
    Curated(
        "Mistral 7B v0.3", "mistralai/Mistral-7B-Instruct-v0.3", "7.2B", "English; much is built on it", _FOUR_BITS
    ),
    Curated("Llama 3.1 8B", "meta-llama/Llama-3.1-8B-Instruct", "8B", "The one most people know", _FOUR_BITS, True),
    Curated("Qwen3 8B", "Qwen/Qwen3-8B", "8.2B", "The strongest that one small GPU trains", _FOUR_BITS),
    Curated("Qwen3 14B", "Qwen/Qwen3-14B", "14.8B", "Where quality counts most", "GPU with 24 GB in 4 bits, or 48 GB"),
)
