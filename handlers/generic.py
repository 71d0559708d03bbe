"""Every family that no other handler names: PEFT finds the linear layers."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="generic",
    model_types=(),
    # Documents in one row see each other in gpt-oss and Qwen 3.5: an unknown family gets a row each.
    packing=False,
)
