"""BLOOM and BLOOMZ."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="bloom",
    model_types=("bloom",),
    dtype="float16",
    max_length=2048,
    # Its causal mask is built without position_ids: documents in one row attend to each other.
    packing=False,
    example="bigscience/bloom-560m",
)
