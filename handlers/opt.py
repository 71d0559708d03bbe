"""OPT."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="opt",
    model_types=("opt",),
    dtype="float16",
    max_length=2048,
    # Its causal mask is built without position_ids: documents in one row attend to each other.
    packing=False,
    example="facebook/opt-350m",
)
