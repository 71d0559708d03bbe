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
    gated: bool = False
    """Whether its licence must be accepted on the hub first."""


CURATED = (
    Curated("tiny", "tiny", "2.9M", "Seeing how all of this works, in a minute and without a network"),
    Curated("SmolLM2 135M", "HuggingFaceTB/SmolLM2-135M-Instruct", "135M", "A laptop without a GPU; short answers"),
    Curated("Qwen3 0.6B", "Qwen/Qwen3-0.6B", "0.6B", "A laptop without a GPU, in an hour or so; many languages"),
    Curated("TinyLlama 1.1B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "1.1B", "Small and fast; English"),
    Curated("Llama 3.2 1B", "meta-llama/Llama-3.2-1B-Instruct", "1.2B", "Follows instructions well for its size", True),
    Curated("Qwen3 1.7B", "Qwen/Qwen3-1.7B", "1.7B", "A GPU with 8 GB; many languages, can think first"),
    Curated("SmolLM3 3B", "HuggingFaceTB/SmolLM3-3B", "3B", "A GPU with 12 GB; open from data to weights"),
    Curated("Phi-4 mini", "microsoft/Phi-4-mini-instruct", "3.8B", "A GPU with 12 GB; reasoning and code"),
    Curated("Gemma 3 4B", "google/gemma-3-4b-it", "4.3B", "A GPU with 16 GB; reads pictures, too", True),
    Curated("Qwen3 4B", "Qwen/Qwen3-4B-Instruct-2507", "4B", "A GPU with 16 GB; a good all-round choice"),
    Curated(
        "Mistral 7B", "mistralai/Mistral-7B-Instruct-v0.3", "7.2B", "A GPU with 16 GB and --method qlora, or 24 GB"
    ),
    Curated(
        "Llama 3.1 8B", "meta-llama/Llama-3.1-8B-Instruct", "8B", "A GPU with 24 GB; the one most people know", True
    ),
    Curated("Qwen3 14B", "Qwen/Qwen3-14B", "14.8B", "A GPU with 24 GB and --method qlora, or 48 GB"),
)
