"""GPT-2 and DistilGPT-2: Conv1D layers; c_proj is both the attention's and the MLP's output."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="gpt2",
    model_types=("gpt2",),
    dtype="float16",
    max_length=1024,
    fan_in_fan_out=True,
    example="openai-community/gpt2",
)
