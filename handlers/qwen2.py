"""Qwen 1.5, 2 and 2.5, dense and with experts (fused parameters, left alone)."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="qwen2",
    model_types=("qwen2", "qwen2_moe"),
    dtype="float16",
    max_length=4096,
    example="Qwen/Qwen2.5-0.5B-Instruct",
)
