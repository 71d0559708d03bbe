"""GPT-NeoX and Pythia: query, key and value in one layer."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="gpt_neox",
    model_types=("gpt_neox",),
    dtype="float16",
    max_length=2048,
    example="EleutherAI/pythia-410m",
)
