"""Mistral 7B and Nemo: Llama's layers, with a sliding window in the first versions."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="mistral",
    model_types=("mistral",),
    dtype="float16",
    max_length=4096,
    example="mistralai/Mistral-7B-v0.3",
)
