"""Qwen 3, dense and with experts (fused parameters, left alone)."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="qwen3",
    model_types=("qwen3", "qwen3_moe"),
    dtype="float16",
    max_length=4096,
    example="Qwen/Qwen3-0.6B",
)
