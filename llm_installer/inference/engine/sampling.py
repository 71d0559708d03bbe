"""The next token of each row from its logits: greedy or drawn, each row by its own rules and its own generator."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llm_installer.inference.engine.request import Guide, Sampling, Token


@dataclass
class Chooser:
    """How one row chooses; knows what it has chosen so far."""

    sampling: Sampling
    generator: torch.Generator | None
    """None for a greedy row."""
    guide: Guide | None = None
    logprobs: int | None = None
    made: Counter[int] = field(default_factory=Counter)

    @property
    def plain(self) -> bool:
        """Its token is the largest logit, whatever came before."""
        sampling = self.sampling
        return not (sampling.temperature or self.guide or self._changes)

    @property
    def _changes(self) -> bool:
        sampling = self.sampling
        return bool(sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias)

    def choose(self, logits: Tensor) -> int:
        """A token, from logits [vocabulary]."""
        logits = logits.float()
        if self._changes:
            logits = self._changed(logits.clone())
        if self.guide:
            logits = logits.masked_fill(~self.guide.allowed().to(logits.device), -torch.inf)
        token = self._drawn(logits) if self.sampling.temperature > 0 else int(logits.argmax())
        return token

    def accept(self, token: int) -> None:
        """The row's next token is this one."""
        if self._changes:
            self.made[token] += 1
        if self.guide:
            self.guide.accept(token)

    def _changed(self, logits: Tensor) -> Tensor:
        """With OpenAI's penalties for what was said already, and the caller's own bias."""
        sampling = self.sampling
        for token, count in self.made.items():
            logits[token] -= sampling.presence_penalty + sampling.frequency_penalty * count
        for token, bias in sampling.logit_bias.items():
            if 0 <= token < len(logits):
                logits[token] += bias
        return logits

    def _drawn(self, logits: Tensor) -> int:
        """A token drawn by the row's own generator: the same seed gives the same token, whatever else is drawn."""
        sampling = self.sampling
        shares = torch.softmax((logits / sampling.temperature).double(), dim=-1)
        if sampling.min_p:
            shares = shares.where(shares >= sampling.min_p * shares.max(), 0)
        order: Tensor | None = None
        if sampling.top_k or sampling.top_p < 1:
            most = min(sampling.top_k or len(shares), len(shares))
            shares, order = torch.topk(shares, most) if most < len(shares) else torch.sort(shares, descending=True)
            if sampling.top_p < 1:
                before = shares.cumsum(-1) - shares
                shares = shares.where(before < sampling.top_p * shares.sum(), 0)
        sums = shares.cumsum(-1)
        at = torch.rand((), generator=self.generator, dtype=torch.float64).to(sums) * sums[-1]
        chosen = int(
            torch.searchsorted(sums, at, right=True).clamp(
                max=int(shares.count_nonzero()) - 1 if order is not None else len(sums) - 1
            )
        )
        return int(order[chosen]) if order is not None else chosen


def chooser(sampling: Sampling, index: int, guide: Guide | None, logprobs: int | None) -> Chooser:
    """How answer `index` of a request chooses."""
    generator = None
    if sampling.temperature > 0:
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed + index
        generator = torch.Generator().manual_seed(seed % (1 << 63))
    return Chooser(sampling, generator, guide, logprobs)


def chosen(choosers: list[Chooser], logits: Tensor) -> list[Token]:
    """The next token of each row, from logits [rows, vocabulary]."""
    ids = logits.argmax(-1).tolist()
    for row, each in enumerate(choosers):
        if not each.plain:
            ids[row] = each.choose(logits[row])
        each.accept(ids[row])
    wanted = [row for row, each in enumerate(choosers) if each.logprobs is not None]
    tokens = [Token(token) for token in ids]
    if not wanted:
        return tokens
    logarithms = torch.log_softmax(logits[wanted].float(), dim=-1)
    for row, values in zip(wanted, logarithms, strict=True):
        count = choosers[row].logprobs or 0
        best, which = values.topk(count)
        top = tuple(zip(which.tolist(), best.tolist(), strict=True))
        tokens[row] = Token(ids[row], float(values[ids[row]]), top)
    return tokens
