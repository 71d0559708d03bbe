"""Phi 1, 1.5 and 2."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="phi",
    model_types=("phi",),
    dtype="float16",
    max_length=2048,
    example="microsoft/phi-2",
)
