"""The installed models as JSON for other programs; docs/guides/models.md says what each field means."""

from __future__ import annotations

import json
from collections.abc import Sequence

from llm_installer.install.installed import Installed


def as_json(models: Sequence[Installed]) -> str:
    """An array with one object a model. Fields are added, but none is renamed or removed; what is not known is null."""
    return json.dumps([_fields(model) for model in models], indent=2, ensure_ascii=False)


def _fields(model: Installed) -> dict[str, str | int | bool | None]:
    return {
        "name": model.name,
        "path": str(model.root),
        "id": model.id or None,
        "source": model.source or None,
        "revision": model.revision or None,
        "model_type": model.model_type or None,
        "parameters": model.parameters or None,
        "bytes": model.bytes if model.readable else None,
        "installed": model.installed or None,
        "adapter": model.adapter or None,
        "linked": model.linked,
        "complete": model.complete,
        "readable": model.readable,
    }
