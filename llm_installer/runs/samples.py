"""The story beside a run: who else is told of it, and what the model answers to the user's prompts meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.examples import Kind
from llm_installer.core.model_info import ModelInfo
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.prompts import Prompt, read_prompts
from llm_installer.planning.options import Options

if TYPE_CHECKING:
    from llm_installer.training.reporters import Ask, Sample
    from llm_installer.training.trainer import Trainer

ANSWER_TOKENS = 64


def read_watching(options: Options, base: Path, encoder: Encoder, kind: Kind, info: ModelInfo) -> list[Prompt]:
    """The prompts of --eval-prompts. All that is wrong with how to watch is said here, before training.

    Raises UsageError for an unknown tracker and DataError for a file that holds no prompts.
    """
    from llm_installer.training.reporters.trackers import asked

    asked(options)
    if options.eval_prompts is None:
        return []
    longest = (info.max_positions or 1_000_000) - ANSWER_TOKENS
    return read_prompts(base / Path(options.eval_prompts).expanduser(), encoder, kind, longest)


def asking(trainer: Trainer, encoder: Encoder, prompts: Sequence[Prompt]) -> Ask | None:
    """Greedy answers to the prompts with the weights of the moment, drawing nothing at random; None without prompts."""
    import torch

    from llm_installer.inference.generate import Sampling, answers
    from llm_installer.training.reporters import Sample

    def ask() -> list[Sample]:
        trainer.model.eval()
        ids = [prompt.ids for prompt in prompts]
        try:
            found = answers(trainer.model, encoder, ids, Sampling(max_new_tokens=ANSWER_TOKENS))
        except torch.OutOfMemoryError:
            raise OSError("the answers to --eval-prompts do not fit into memory beside the training") from None
        return [Sample(prompt.text, said.text, said.ended) for prompt, said in zip(prompts, found, strict=True)]

    return ask if prompts else None
