"""OPT."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="opt",
    model_types=("opt",),
    target_modules=("q_proj", "k_proj", "v_proj", "out_proj"),
    dtype="float16",
    max_length=2048,
    # Its causal mask is built without position_ids: documents in one row attend to each other.
    packing=False,
    example="facebook/opt-350m",
)
