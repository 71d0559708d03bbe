"""Llama 2 and 3, and models that kept their layer names, such as SmolLM 1 and 2 and TinyLlama."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="llama",
    model_types=("llama",),
    dtype="float16",
    max_length=4096,
    example="meta-llama/Meta-Llama-3-8B",
)
