"""All adapters on one base, each row with its own: one product for the ranks of all of them, masked by row.

The low-rank pairs of the adapters that are in a batch lie side by side. What a row must not get is multiplied by zero
between the two products, which costs far less than a loop over adapters while ranks are small beside the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from llm_installer.inference.engine.parts import LowRank, Parts, TokenRows

STACKS = 8
"""Sets of adapters of which the stacked pairs are kept; a batch of answers and a read of prompts take turns."""


@dataclass(frozen=True)
class _Stack:
    """The pairs of some adapters on one layer, side by side."""

    down: Tensor
    """[in, ranks]."""
    up: Tensor
    """[ranks, out]."""
    owners: tuple[int, ...]
    """Which of the adapters each column is of."""
    gains: Tensor | None
    """[adapters + 1, out], of which the last row is for the base; None where there is no DoRA."""
    biases: Tensor | None
    """[adapters + 1, out]."""


@dataclass(frozen=True)
class _Choice:
    """Which adapter each row has."""

    names: tuple[str, ...]
    """Those that any row has, sorted."""
    rows: Tensor
    """The place of each row's adapter in `names`, len(names) for the base [rows]."""
    mixed: bool
    """Not all rows have the same."""
    masks: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = field(default_factory=dict)
    """The masks [rows, 1, ranks] by the owners of the ranks, so that layers share them."""


class AdapterBank:
    """Adapters by name, on the layers of a base that stays as it is."""

    def __init__(self, base: nn.Module) -> None:
        self._layers = dict(base.named_modules())
        self._device = next(base.parameters()).device
        self._low_rank: dict[str, dict[str, LowRank]] = {}
        """By layer, then by adapter."""
        self._token_rows: dict[str, dict[str, TokenRows]] = {}
        self._hooks: dict[str, RemovableHandle] = {}
        self._stacks: dict[tuple[str, tuple[str, ...], torch.dtype], _Stack | None] = {}
        self._choice: _Choice | None = None
        self._choices: dict[tuple[str, ...], _Choice] = {}

    def add(self, name: str, parts: Parts) -> None:
        """Take an adapter in."""
        for path, pair in parts.low_rank.items():
            self._low_rank.setdefault(path, {})[name] = pair
        for path, rows in parts.token_rows.items():
            self._token_rows.setdefault(path, {})[name] = rows
        for path in {*parts.low_rank, *parts.token_rows} - set(self._hooks):
            self._hooks[path] = self._layers[path].register_forward_hook(partial(self._after, path))
        self._forget()

    def remove(self, name: str) -> None:
        """Let an adapter go."""
        for pairs in self._low_rank.values():
            pairs.pop(name, None)
        for rows in self._token_rows.values():
            rows.pop(name, None)
        for path in [path for path in self._hooks if not (self._low_rank.get(path) or self._token_rows.get(path))]:
            self._hooks.pop(path).remove()
        self._forget()

    def select(self, rows: Sequence[str]) -> None:
        """The adapters of the rows of the next forwards, by name; a name that is not here, as that of the base, has
        none."""
        key = tuple(rows)
        if key not in self._choices:
            if len(self._choices) > STACKS:
                self._choices.clear()
            self._choices[key] = self._chosen(key)
        choice = self._choices[key]
        self._choice = choice if choice.names else None

    def _chosen(self, rows: tuple[str, ...]) -> _Choice:
        known = {name for pairs in self._low_rank.values() for name in pairs}
        known |= {name for given in self._token_rows.values() for name in given}
        names = tuple(sorted(known & set(rows)))
        places = {name: at for at, name in enumerate(names)}
        found = torch.tensor([places.get(name, len(names)) for name in rows], device=self._device)
        return _Choice(names, found, len(set(rows)) > 1)

    def _forget(self) -> None:
        self._stacks.clear()
        self._choices.clear()
        self._choice = None

    def _after(self, path: str, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """What the layer gives with the adapters of the rows (a forward hook); None for what it gave."""
        choice = self._choice
        if choice is None:
            return None
        given = output
        if path in self._low_rank:
            given = self._with_low_rank(path, layer, args[0], given, choice)
        if path in self._token_rows:
            given = self._with_token_rows(path, layer, args[0], given, choice)
        return given

    def _with_low_rank(self, path: str, layer: nn.Module, x: Tensor, output: Tensor, choice: _Choice) -> Tensor:
        key = path, choice.names, x.dtype
        if key not in self._stacks:
            if len(self._stacks) >= STACKS * len(self._hooks):
                self._stacks.clear()
            self._stacks[key] = _stacked(self._low_rank[path], choice.names, x)
        stack = self._stacks[key]
        if stack is None:
            return output
        inner = x @ stack.down
        if choice.mixed:
            inner = inner * _mask(choice, stack.owners, inner.dtype)
        if stack.gains is not None:
            bias = getattr(layer, "bias", None)
            gain = stack.gains[choice.rows].unsqueeze(1)
            output = output * gain if bias is None else (output - bias) * gain + bias
        if stack.biases is not None:
            output = output + stack.biases[choice.rows].unsqueeze(1)
        flat = output.reshape(-1, output.shape[-1])
        return torch.addmm(flat, inner.reshape(-1, inner.shape[-1]), stack.up).view_as(output)

    def _with_token_rows(self, path: str, layer: nn.Module, x: Tensor, output: Tensor, choice: _Choice) -> Tensor:
        """An embedding gives the adapter's rows for its tokens [rows, length, hidden]; an output layer's logits of them
        are made with these rows [rows, length, vocabulary]."""
        for at, name in enumerate(choice.names):
            given = self._token_rows[path].get(name)
            if given is None:
                continue
            if isinstance(layer, nn.Embedding):
                mine = (choice.rows == at).unsqueeze(1)
                for token, row in zip(given.tokens, given.rows, strict=True):
                    output[(x == token) & mine] = row.to(output)
            else:
                rows = (choice.rows == at).nonzero().squeeze(1)
                places = (
                    rows.view(-1, 1, 1),
                    torch.arange(x.shape[1], device=x.device).view(1, -1, 1),
                    given.tokens.view(1, 1, -1),
                )
                output[places] = x[rows] @ given.rows.to(x).T
        return output


def _stacked(pairs: dict[str, LowRank], names: tuple[str, ...], like: Tensor) -> _Stack | None:
    """The pairs of these adapters, side by side; None where the layer has none of them."""
    mine = [(at, pairs[name]) for at, name in enumerate(names) if name in pairs]
    if not mine:
        return None
    down = torch.cat([pair.down for _, pair in mine]).to(like).T.contiguous()
    up = torch.cat([pair.up for _, pair in mine], dim=1).to(like).T.contiguous()
    owners = tuple(at for at, pair in mine for _ in range(len(pair.down)))
    out = up.shape[1]

    def table(rest: float, values: dict[int, Tensor]) -> Tensor | None:
        if not values:
            return None
        rows = torch.full((len(names) + 1, out), rest, dtype=like.dtype, device=like.device)
        for at, value in values.items():
            rows[at] = value.to(like)
        return rows

    gains = table(1.0, {at: pair.gain for at, pair in mine if pair.gain is not None})
    biases = table(0.0, {at: pair.bias for at, pair in mine if pair.bias is not None})
    return _Stack(down, up, owners, gains, biases)


def _mask(choice: _Choice, owners: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """1 where a rank is of the row's adapter, else 0 [rows, 1, ranks]."""
    key = owners, dtype
    if key not in choice.masks:
        whose = torch.tensor(owners, device=choice.rows.device)
        choice.masks[key] = (choice.rows.unsqueeze(1) == whose).unsqueeze(1).to(dtype)
    return choice.masks[key]
