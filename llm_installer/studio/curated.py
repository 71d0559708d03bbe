"""The models of the list that this service began with, and the hub ids that they mean today."""

from __future__ import annotations

CURATED = {
    "llama-2-7b": "meta-llama/Llama-2-7b-hf",
    "llama-2-13b": "meta-llama/Llama-2-13b-hf",
    "mistral-7b": "mistralai/Mistral-7B-v0.3",
    "phi-2": "microsoft/phi-2",
    "gemma-7b": "google/gemma-7b",
    "tinyllama-1.1b": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
}
