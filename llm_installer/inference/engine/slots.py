"""Keys and values of many rows in one tensor a layer: each row fills its slot from position 0, whatever the others do.

No row is padded on the left, so none moves when another joins or leaves; what lies beyond a row's own length in its
slot is never looked at, which is the mask's part (masks.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

Kept = list[tuple[Tensor, Tensor]]
"""Keys and values of one row, by layer: each [1, heads, length, size]."""
STEP = 64
"""Slots grow by so many positions, or by half where that is more."""


@dataclass
class _Window:
    """What the next forward writes and sees."""

    rows: int = 0
    start: int = 0
    """Where all rows write, in a read of prompts."""
    at: Tensor | None = None
    """Where each row writes its one token [rows], in a step of answers."""
    length: int = 0
    """Positions that are seen, the new ones included."""
    slots: int = 0
    capacity: int = 0
    places: dict[int, Tensor] = field(default_factory=dict)
    """Where each row writes its one token, among all positions of all heads of all slots [rows x heads], by heads."""

    def places_of(self, heads: int) -> Tensor:
        """The places for layers of so many heads."""
        if heads not in self.places:
            assert self.at is not None
            each = torch.arange(self.rows * heads, device=self.at.device).view(self.rows, heads)
            self.places[heads] = (each * self.capacity + self.at.unsqueeze(1)).flatten()
        return self.places[heads]


class _Layer(CacheLayerMixin):
    """One layer's slots [slots, heads, capacity, size]."""

    is_sliding = False

    def __init__(self, window: _Window) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.window = window
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Slots for tensors like these [rows, heads, length, size]."""
        window = self.window

        def slots(like: Tensor) -> Tensor:
            return like.new_zeros(window.slots, like.shape[1], window.capacity, like.shape[3])

        self.keys, self.values = slots(key_states), slots(value_states)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write what is new, and give what each row may look at: [rows, heads, length, size]."""
        if self.keys is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        window = self.window
        rows = slice(0, window.rows)
        if window.at is None:
            span = slice(window.start, window.length)
            self.keys[rows, :, span] = key_states
            self.values[rows, :, span] = value_states
        else:
            self.append(key_states, value_states)
        return self.keys[rows, :, : window.length], self.values[rows, :, : window.length]

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Write the one token of each row: [rows, heads, size], or with a dimension of 1 before the last."""
        for slots, new in ((self.keys, keys), (self.values, values)):
            assert slots is not None
            places = self.window.places_of(new.shape[1])
            slots.view(-1, slots.shape[-1]).index_copy_(0, places, new.reshape(-1, new.shape[-1]))

    def grow(self, length: int) -> None:
        """As many slots and positions as the window says; what lies in the first `length` positions stays."""
        if self.keys is None or self.values is None:
            return
        window = self.window

        def larger(old: Tensor) -> Tensor:
            new = old.new_zeros(window.slots, old.shape[1], window.capacity, old.shape[3])
            rows = min(window.slots, old.shape[0])
            new[:rows, :, :length] = old[:rows, :, :length]
            return new

        self.keys, self.values = larger(self.keys), larger(self.values)

    def get_seq_length(self) -> int:
        """Positions before the new ones; rows differ, and nothing of ours asks."""
        return self.window.start

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(positions seen, where they begin)."""
        return self.window.length, 0

    def get_max_length(self) -> int:
        """-1: it grows."""
        return -1


class Slots:
    """The slots of all layers, as a cache that a model of transformers writes to."""

    def __init__(self, layers: int) -> None:
        self._window = _Window()
        self._layers = [_Layer(self._window) for _ in range(layers)]
        self.cache = Cache(layers=list(self._layers))

    @property
    def bytes(self) -> int:
        """What the slots take now."""
        return sum(t.nbytes for layer in self._layers for t in (layer.keys, layer.values) if t is not None)

    @property
    def length(self) -> int:
        """Positions that the next forward sees."""
        return self._window.length

    @property
    def token_bytes(self) -> int:
        """What one position of one row takes; 0 while nothing was written."""
        places = self._window.slots * self._window.capacity
        return self.bytes // places if places else 0

    def reserve(self, rows: int, length: int, used: int) -> None:
        """Room for `rows` rows of `length` positions; the first `used` positions of each slot stay as they are. What
        many short rows needed before is not kept for a long one, nor the other way round: that would be the product of
        both."""
        window = self._window
        if rows <= window.slots and length <= window.capacity:
            return
        larger = window.capacity * 3 // 2 if used and length > window.capacity else 0
        window.slots, window.capacity = rows, max(-(-length // STEP) * STEP, larger)
        for layer in self._layers:
            layer.grow(used)

    def release(self) -> None:
        """Give the memory back; nothing is in the slots any more."""
        self._window.slots = self._window.capacity = 0
        for layer in self._layers:
            layer.keys = layer.values = None
            layer.is_initialized = False

    def reading(self, rows: int, start: int, length: int) -> None:
        """The next forward reads positions `start` to `length` of the first `rows` rows."""
        self._window.rows, self._window.start, self._window.at, self._window.length = rows, start, None, length

    def stepping(self, at: Tensor, length: int) -> None:
        """The next forward adds a token to each row, at the positions `at` [rows], of which the last is length - 1."""
        self._window.rows, self._window.at, self._window.length = len(at), at, length
        self._window.places = {}

    def append(self, number: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write a token of each row [rows, heads, size] for layer `number`, in a step; returns what each row may look
        at: [rows, heads, length, size]."""
        layer, window = self._layers[number], self._window
        assert layer.keys is not None and layer.values is not None
        layer.append(keys, values)
        return layer.keys[: window.rows, :, : window.length], layer.values[: window.rows, :, : window.length]

    def look(self, row: int, length: int) -> Kept:
        """What a row holds, where it is."""
        one = slice(row, row + 1)
        return [
            (layer.keys[one, :, :length], layer.values[one, :, :length])
            for layer in self._layers
            if layer.keys is not None and layer.values is not None
        ]

    def take(self, row: int, length: int) -> Kept:
        """A copy of what a row holds."""
        return [(keys.clone(), values.clone()) for keys, values in self.look(row, length)]

    def put(self, row: int, held: Kept, length: int) -> None:
        """Let a row begin with the first `length` positions of what another held; there must be room."""
        for layer, (keys, values) in zip(self._layers, held, strict=False):
            if layer.keys is None:
                layer.lazy_initialization(keys, values)
            assert layer.keys is not None and layer.values is not None
            layer.keys[row, :, :length] = keys[0, :, :length]
            layer.values[row, :, :length] = values[0, :, :length]

    def move(self, source: int, target: int, length: int) -> None:
        """Let slot `target` hold what `source` holds."""
        for layer in self._layers:
            if layer.keys is not None and layer.values is not None:
                layer.keys[target, :, :length] = layer.keys[source, :, :length]
                layer.values[target, :, :length] = layer.values[source, :, :length]


def size_of(held: Kept) -> int:
    """Bytes of what a row held."""
    return sum(keys.nbytes + values.nbytes for keys, values in held)
