"""PyYAML's safe loader for texts to train on: plain words stay text, no name is dropped, merges cannot explode.

It imports yaml at load, so markup.py imports it in a function.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

import yaml
from yaml.constructor import ConstructorError

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

_TAG = "tag:yaml.org,2002:"
_BOOL = re.compile(r"(true|True|TRUE|false|False|FALSE)$")
_DEEPEST = 200
"""Nested lists and objects; at some thousands libyaml overruns its stack and ends the process."""


class TooDeep(Exception):
    """The text is nested deeper than any dataset; `line` is 1-based, 0 where it is not known."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class TooLarge(Exception):
    """Aliases (*name) or merge keys (<<) make many times more of a text than is written in it."""


class TextLoader(SafeLoader):
    """The safe loader with the rules of this module, which are registered below by PyYAML's own means."""

    # The only rules for plain words. YAML's own would read "no" as false, 12:30 as 750 and 2024-01-01 as a date.
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML reads it from the class)
        **{first: [(_TAG + "null", re.compile(r"(~|null|Null|NULL|)$"))] for first in ("~", "n", "N", "")},
        **{first: [(_TAG + "bool", _BOOL)] for first in "tTfF"},
        "<": [(_TAG + "merge", re.compile("<<$"))],
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._left = _limit(text)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """PyYAML's step that copies merged entries into a mapping. Raises TooLarge before it copies too many."""
        self._count_merged(node)
        super().flatten_mapping(node)

    def _count_merged(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in parts:
                    if isinstance(part, yaml.MappingNode):
                        self._count_merged(part)
                        self._left -= len(part.value)
        if self._left < 0:
            raise TooLarge


def documents(text: str) -> list[object]:
    """The documents of a YAML text, each as lists, dicts, str, bool and None.

    Raises TooDeep, TooLarge, and yaml.YAMLError for what is not YAML.
    """
    _check_depth(text)
    found = list(yaml.load_all(text, TextLoader))
    if _is_larger(found, _limit(text)):
        raise TooLarge
    return found


def _limit(text: str) -> int:
    """Values that a text may expand to; real files have less than one for each character."""
    return 10 * len(text) + 1000


def _is_larger(documents: list[object], limit: int) -> bool:
    """Whether the documents hold more values than `limit`, counting what aliases repeat (or repeat for ever)."""
    stack: list[object] = [documents]
    count = 0
    while stack and count <= limit:
        inner = stack.pop()
        count += 1
        if isinstance(inner, dict):
            stack.extend(inner.values())
        elif isinstance(inner, list | tuple | set):
            stack.extend(inner)
    return count > limit


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise TooDeep(event.start_mark.line + 1 if event.start_mark else 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _true_or_false(loader: TextLoader, node: yaml.ScalarNode) -> bool:
    value = loader.construct_scalar(node)
    if not _BOOL.match(value):
        raise ConstructorError(None, None, f'"{value}" is neither true nor false', node.start_mark)
    return value.lower() == "true"


def _text(loader: TextLoader, node: yaml.ScalarNode) -> str:
    return loader.construct_scalar(node)


def _unique_map(loader: TextLoader, node: yaml.Node) -> dict[Hashable, object]:
    """A mapping in which no name is given twice; YAML itself would keep the last."""
    if not isinstance(node, yaml.MappingNode):
        raise ConstructorError(None, None, "expected a mapping here", node.start_mark)
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ConstructorError(None, None, f'the name "{key.value}" is given twice', key.start_mark)
            seen.add(key.value)
    mapping: dict[Hashable, object] = loader.construct_mapping(node, deep=True)
    return mapping


for _kind in ("int", "float", "timestamp"):
    TextLoader.add_constructor(_TAG + _kind, _text)
TextLoader.add_constructor(_TAG + "bool", _true_or_false)
TextLoader.add_constructor(_TAG + "map", _unique_map)
