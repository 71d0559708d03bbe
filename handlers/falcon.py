"""Falcon 1 and 2, rotary or ALiBi, with one or several key heads."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="falcon",
    model_types=("falcon",),
    dtype="float16",
    max_length=2048,
    # Its causal mask is built without position_ids: documents in one row attend to each other.
    packing=False,
    example="tiiuae/falcon-7b",
)
