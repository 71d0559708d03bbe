"""Where a base came from, read from the record of its installation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_installer.core.hub_base import HubBase, hub_base


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"source": "hub", "id": "org/base", "revision": "abc"}, HubBase("org/base", "abc")),
        ({"source": "hub", "id": "org/base", "revision": None}, HubBase("org/base", "")),
        ({"source": "folder", "id": "/home/me/base", "revision": ""}, None),
        ({"source": "hub", "id": 5}, None),
        ([], None),
    ],
)
def test_only_a_hub_is_named(tmp_path: Path, record: object, expected: HubBase | None) -> None:
    file = tmp_path / "model_info.json"
    file.write_text(json.dumps(record), encoding="utf-8")
    assert hub_base(file) == expected


def test_without_a_record_none_is_named(tmp_path: Path) -> None:
    assert hub_base(tmp_path / "model_info.json") is None
