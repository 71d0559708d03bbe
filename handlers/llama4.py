"""Llama 4, with and without its vision tower; the names below include the shared expert, routed ones are fused."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="llama4",
    model_types=("llama4", "llama4_text"),
    dtype="bfloat16",
    max_length=8192,
    vision=True,
    example="meta-llama/Llama-4-Scout-17B-16E-Instruct",
)
