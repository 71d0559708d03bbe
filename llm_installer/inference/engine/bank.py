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
class Stack:
    """The pairs of some adapters on layers that read the same input, side by side."""

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
    """The masks [rows, ranks] by the owners of the ranks, so that layers share them."""


class AdapterBank:
    """Adapters by name, on the layers of a base that stays as it is."""

    def __init__(self, base: nn.Module) -> None:
        self._layers = dict(base.named_modules())
        self._device = next(base.parameters()).device
        self._low_rank: dict[str, dict[str, LowRank]] = {}
        """By layer, then by adapter."""
        self._token_rows: dict[str, dict[str, TokenRows]] = {}
        self._hooks: dict[str, RemovableHandle] = {}
        self._stacks: dict[tuple[tuple[str, ...], tuple[str, ...], torch.dtype], Stack | None] = {}
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
            stack = self.stack_of((path,), (given.shape[-1],), args[0])
            if stack is not None:
                bias = getattr(layer, "bias", None)
                given = self.adapted(stack, args[0], given, bias)
        if path in self._token_rows:
            given = self._with_token_rows(path, layer, args[0], given, choice)
        return given

    def stack_of(self, paths: tuple[str, ...], widths: tuple[int, ...], like: Tensor) -> Stack | None:
        """What the adapters of the rows have on layers of these output `widths`, in the type of `like`; None where
        they have nothing there."""
        choice = self._choice
        if choice is None:
            return None
        key = paths, choice.names, like.dtype
        if key not in self._stacks:
            if len(self._stacks) >= 2 * STACKS * len(self._hooks):
                self._stacks.clear()
            stacks = [_stacked(self._low_rank.get(path, {}), choice.names, like) for path in paths]
            self._stacks[key] = stacks[0] if len(stacks) == 1 else _joined(stacks, widths)
        return self._stacks[key]

    def adapted(self, stack: Stack, x: Tensor, output: Tensor, bias: Tensor | None) -> Tensor:
        """The output [rows, outputs] of layers with this bias for `x` [rows, inputs], or both with a dimension of
        tokens behind the rows, with the adapters of the rows."""
        choice = self._choice
        assert choice is not None
        inner = x @ stack.down
        if choice.mixed:
            mask = _mask(choice, stack.owners, inner.dtype)
            inner = inner * (mask if x.dim() == 2 else mask.unsqueeze(1))
        if stack.gains is not None:
            gain = _for_rows(stack.gains, choice, x)
            output = output * gain if bias is None else (output - bias) * gain + bias
        if stack.biases is not None:
            output = output + _for_rows(stack.biases, choice, x)
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


def _stacked(pairs: dict[str, LowRank], names: tuple[str, ...], like: Tensor) -> Stack | None:
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
    return Stack(down, up, owners, gains, biases)


def _joined(stacks: Sequence[Stack | None], widths: Sequence[int]) -> Stack | None:
    """The stacks of layers that read the same input as that of one layer, which gives what they give side by side."""
    some = [stack for stack in stacks if stack]
    if not some:
        return None
    ups = [stack.up if stack else some[0].up.new_zeros(0, width) for stack, width in zip(stacks, widths, strict=True)]

    def table(rest: float, values: Sequence[Tensor | None]) -> Tensor | None:
        like = next((value for value in values if value is not None), None)
        if like is None:
            return None
        parts = [
            like.new_full((len(like), width), rest) if value is None else value
            for value, width in zip(values, widths, strict=True)
        ]
        return torch.cat(parts, dim=1)

    return Stack(
        torch.cat([stack.down for stack in some], dim=1),
        torch.block_diag(*ups).to(some[0].up),  # type: ignore[no-untyped-call]
        tuple(owner for stack in some for owner in stack.owners),
        table(1.0, [stack.gains if stack else None for stack in stacks]),
        table(0.0, [stack.biases if stack else None for stack in stacks]),
    )


def _for_rows(values: Tensor, choice: _Choice, x: Tensor) -> Tensor:
    """Of a table by adapters, the line of each row's."""
    found = values[choice.rows]
    return found if x.dim() == 2 else found.unsqueeze(1)


def _mask(choice: _Choice, owners: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """1 where a rank is of the row's adapter, else 0 [rows, ranks]."""
    key = owners, dtype
    if key not in choice.masks:
        whose = torch.tensor(owners, device=choice.rows.device)
        choice.masks[key] = (choice.rows.unsqueeze(1) == whose).to(dtype)
    return choice.masks[key]
