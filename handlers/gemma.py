"""Gemma 1 and 2."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="gemma",
    model_types=("gemma", "gemma2"),
    # Trained in bfloat16; activations leave the range of float16.
    dtype="bfloat16",
    max_length=4096,
    example="google/gemma-2-2b-it",
)
