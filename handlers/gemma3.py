"""Gemma 3, with and without its vision tower."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="gemma3",
    model_types=("gemma3", "gemma3_text"),
    # Trained in bfloat16; activations leave the range of float16.
    dtype="bfloat16",
    max_length=8192,
    vision=True,
    example="google/gemma-3-4b-it",
)
