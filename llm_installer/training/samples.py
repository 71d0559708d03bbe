"""What the model answers to the user's own prompts while it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llm_installer.core.run.samples import ANSWER_TOKENS, Ask, Sample
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.prompts import Prompt
from llm_installer.inference.generate import Sampling, answers
from llm_installer.training.trainer import Trainer


def sampler(trainer: Trainer, encoder: Encoder, prompts: Sequence[Prompt]) -> Ask | None:
    """Greedy answers to the prompts with the present weights; it draws no random number. None without prompts."""

    def ask() -> list[Sample]:
        trainer.model.eval()
        ids = [prompt.ids for prompt in prompts]
        try:
            found = answers(trainer.model, encoder, ids, Sampling(max_new_tokens=ANSWER_TOKENS))
        except torch.OutOfMemoryError:
            raise OSError("the answers to --eval-prompts do not fit into memory beside the training") from None
        return [Sample(prompt.text, said.text, said.ended) for prompt, said in zip(prompts, found, strict=True)]

    return ask if prompts else None
