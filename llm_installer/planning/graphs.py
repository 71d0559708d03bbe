"""Whether the work of a step is recorded as CUDA graphs: what that takes of the memory, and why it is not done."""

from __future__ import annotations

from dataclasses import replace

from llm_installer.core.text import size
from llm_installer.planning.fitting import Fit
from llm_installer.planning.memory import MemoryPlan
from llm_installer.planning.setup import Setup

LIBRARIES = 32 << 20
"""What the libraries of matrix products hold for the stream on which work is recorded."""


def choose_graphs(setup: Setup, memory: MemoryPlan, fit: Fit, step_tokens: int, sharded: bool) -> tuple[Fit, bool, str]:
    """(how memory is used then, whether steps are recorded, why); no reason where there is no GPU that could.

    What is recorded keeps the memory of the largest micro-batch, which nothing else can use: an evaluation, and a
    micro-batch that is not recorded yet, come beside it. What the model itself allows is tried while it trains.
    """
    if setup.hardware.device != "cuda":
        return fit, False, ""
    tokens = min(fit.tokens, max(setup.longest, step_tokens))
    more = memory.peak(tokens, fit.checkpointed) - memory.peak(0, fit.checkpointed) + LIBRARIES
    reasons = (
        (not setup.fast, "plain PEFT is computed as it stands"),
        (setup.precision == "float16", "float16 looks at its scale in each step"),
        (bool(setup.method.neftune_noise_alpha), "the noise of NEFTune depends on the length of a row"),
        (setup.model.vision, "rows have images"),
        (sharded, "the base is sharded over several processes"),
        (fit.peak + more > memory.room, f"memory is short: they would take {size(more)} more"),
    )
    if why := next((why for found, why in reasons if found), ""):
        return fit, False, why
    return replace(fit, peak=fit.peak + more), True, f"the GPU does not wait for Python; they take {size(more)}"
