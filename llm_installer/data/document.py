"""What there is to say about a dataset as plain values for JSON; docs/reference/json.md says what each field means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from llm_installer.core.examples import Dropped, Origin
from llm_installer.data.overview import DataOverview

if TYPE_CHECKING:
    from llm_installer.data.preview import Preview, Shown

VERSION = 1
"""Rises when a field is renamed or removed, or means something else; new ones are added without."""
Values = dict[str, object]
"""An object of JSON."""


def as_json(values: Mapping[str, object]) -> str:
    """One JSON object; a file name that is not valid text becomes an escape, as JSON writes it."""
    return (
        json.dumps({"version": VERSION, **values}, ensure_ascii=False, indent=2)
        .encode(errors="backslashreplace")
        .decode()
    )


def overview_values(overview: DataOverview) -> Values:
    """An overview by the names of its fields."""
    found: Values = asdict(overview)
    found["dropped"] = [_dropped(dropped) for dropped in overview.dropped]
    if overview.tokens and isinstance(tokens := found["tokens"], dict):
        tokens["skipped"] = [{**_dropped(dropped), "partly": dropped.partly} for dropped in overview.tokens.skipped]
        tokens["cut_rows"] = [_dropped(dropped) for dropped in overview.tokens.cut_rows]
        tokens["histogram"] = [{"tokens": most, "rows": count} for most, count in overview.tokens.histogram]
    return found


def shown_values(preview: Preview | None) -> list[Values]:
    """Examples as they are trained on, token by token."""
    return [_shown(shown, preview) for shown in preview.examples] if preview else []


def _shown(shown: Shown, preview: Preview) -> Values:
    from llm_installer.data.pieces import pieces

    rows = [
        {
            "tokens": len(row.ids),
            "learned": int(row.supervised.sum()),
            "pieces": [
                {"text": piece.text, "ids": list(piece.ids), "learned": piece.learned}
                for piece in pieces(row, preview.encoder.tokenizer)
            ],
        }
        for row in shown.rows
    ]
    return {**place(shown.origin), "notes": list(shown.notes), "rows": rows}


def place(origin: Origin) -> Values:
    """File, and line or record where there is one."""
    number = {"line": origin.line} if origin.line else {"record": origin.record} if origin.record else {}
    return {"file": origin.file, **number}


def _dropped(dropped: Dropped) -> Values:
    return {**place(dropped.origin), "reason": dropped.reason}
