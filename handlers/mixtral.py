"""Mixtral: Mistral's attention over experts that are one fused parameter, so only attention can take a LoRA by name."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="mixtral",
    model_types=("mixtral",),
    dtype="float16",
    max_length=4096,
    example="mistralai/Mixtral-8x7B-v0.1",
)
