"""SmolLM 3; SmolLM 1 and 2 say model_type llama and are served by the llama handler."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="smollm",
    model_types=("smollm3",),
    dtype="float16",
    max_length=4096,
    example="HuggingFaceTB/SmolLM3-3B",
)
