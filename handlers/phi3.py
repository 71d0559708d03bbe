"""Phi 3, 3.5 and 4: query, key and value in one layer."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="phi3",
    model_types=("phi3",),
    dtype="float16",
    # The long-context versions change all rotary factors once one document passes 4096.
    max_length=4096,
    example="microsoft/Phi-3-mini-4k-instruct",
)
