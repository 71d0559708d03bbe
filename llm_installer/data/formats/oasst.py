"""OpenAssistant's trees of messages: flat rows become trees, and each tree gives its best-ranked thread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from llm_installer.core.examples import Example, Origin
from llm_installer.data.formats.converters import converse
from llm_installer.data.formats.turns import Turn, read_turns
from llm_installer.data.formats.values import Record, SkipRecord, as_list, missing

Row = tuple[object, Origin]
_Node = dict[str, object]
_KEYS = {"message_id", "parent_id"}


def build_trees(rows: Iterable[Row]) -> Iterator[Row]:
    """The trees that flat rows belong to, each with the origin of its first message.

    Rows that belong to no tree of the file come back as they were, to be skipped with a reason.
    """
    flat: dict[str, tuple[Record, Origin]] = {}
    for record, origin in rows:
        key = str(record["message_id"]) if isinstance(record, Mapping) and record.keys() >= _KEYS else ""
        if isinstance(record, Mapping) and key and key not in flat:  # "" is the parent of first messages
            flat[key] = record, origin
        else:
            yield record, origin
    replies: dict[str, list[str]] = {}
    for key, (record, _) in flat.items():
        replies.setdefault(_parent(record), []).append(key)
    planted: set[str] = set()
    for root in replies.get("", ()):
        yield {"message_tree_id": root, "prompt": _tree(root, flat, replies, planted)}, flat[root][1]
    yield from (row for key, row in flat.items() if key not in planted)


def _parent(record: Record) -> str:
    parent = record["parent_id"]
    return "" if missing(parent) else str(parent)


def _tree(
    root: str, flat: Mapping[str, tuple[Record, Origin]], replies: Mapping[str, list[str]], planted: set[str]
) -> _Node:
    """The message `root` with its replies inside it, and theirs inside them."""
    nodes: dict[str, _Node] = {root: dict(flat[root][0])}
    ahead = [root]
    while ahead:
        key = ahead.pop()
        planted.add(key)
        nodes |= {reply: dict(flat[reply][0]) for reply in replies.get(key, ())}
        nodes[key]["replies"] = [nodes[reply] for reply in replies.get(key, ())]
        ahead += replies.get(key, ())
    return nodes[root]


def best_thread(record: Record, origin: Origin) -> Example:
    """From the first message down, always the reply that people ranked best. Raises SkipRecord."""
    if "prompt" not in record:
        raise SkipRecord("its tree is incomplete in this file, or the message is there twice")
    turns: list[Turn] = []
    replies: list[object] = [record["prompt"]]
    while replies:
        best = min(replies, key=_rank)
        if not isinstance(best, Mapping):
            raise SkipRecord("a reply of the tree is not an object")
        turns += read_turns([{"role": best.get("role"), "text": best.get("text")}], "prompt")[0]
        replies = [reply for reply in as_list(best.get("replies"), "replies") if not _deleted(reply)]
    return converse({}, origin, turns)


def _deleted(reply: object) -> bool:
    return isinstance(reply, Mapping) and reply.get("deleted") is True


def _rank(reply: object) -> float:
    rank = reply.get("rank") if isinstance(reply, Mapping) else None
    return float(rank) if isinstance(rank, int | float) and not missing(rank) else math.inf
