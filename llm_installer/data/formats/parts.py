"""A turn's content as a list of parts: texts, images, and the thoughts before an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_installer.core.text import shortened
from llm_installer.data.formats.values import SkipRecord, image_path, missing, render

IMAGE_MARK = "<image>"
_THOUGHT_PARTS = {"thinking", "reasoning"}
_IMAGE_PARTS = {"image", "image_url", "input_image"}
_TEXT_PARTS = {"text", "input_text", "output_text", "summary_text", "reasoning_text"}
_WORDS = ("text", "value", "content")
"""Keys of what a part says, beside its own type."""
_ABOUT = {"type", "id", "role", "index", "status", "phase", "signature", "encrypted_content"}
"""Keys of texts that are no words of a part."""
_OTHER_MEDIA = {"audio", "audio_url", "input_audio", "video", "video_url"}


def read_parts(parts: Sequence[object], where: str, images: list[str]) -> tuple[str, str]:
    """The text of the parts with a mark for each image, and the thoughts among them.

    The paths of images are added to `images`, "" for one without a path. Raises SkipRecord.
    """
    said: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        (thoughts if _kind(part) in _THOUGHT_PARTS else said).append(_part(part, where, images))
    return "".join(said), "\n\n".join(filter(None, thoughts))


def _kind(part: object) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    return kind if isinstance(kind, str) else ""


def _part(part: object, where: str, images: list[str]) -> str:
    if isinstance(part, str):
        return part
    kind = _kind(part)
    if not isinstance(part, Mapping) or not kind:
        raise SkipRecord(f"a part of {where} has no 'type'")
    values = [part[key] for key in (kind, *_WORDS, "image_url", "image", "path", "url") if not missing(part.get(key))]
    if kind in _TEXT_PARTS or kind in _THOUGHT_PARTS:
        return _words(part, kind, where, images)
    if kind in _IMAGE_PARTS:
        images.append(image_path(values[0], f"an image of {where}") if values else "")
        return IMAGE_MARK
    if kind in _OTHER_MEDIA:
        raise SkipRecord(f"{where} has a part of type {kind}, and only text and images can be trained on")
    raise SkipRecord(f"{where} has a part of the unknown type '{shortened(kind, 40)}'")


def _words(part: Mapping[str, object], kind: str, where: str, images: list[str]) -> str:
    """What a part of text or of thoughts says. Raises SkipRecord where it says something under an unknown key."""
    keys = (kind, *_WORDS, "summary")
    said = next((value for key in keys if not missing(value := part.get(key)) and value != []), None)
    if isinstance(said, list | tuple):
        return "\n\n".join(filter(None, reversed(read_parts(said, where, images))))
    if said is None and not any(key in part for key in keys):
        lost = [key for key, value in part.items() if key not in _ABOUT and isinstance(value, str) and value]
        if lost:
            raise SkipRecord(f"a part of {where} has its text at '{shortened(lost[0], 40)}' and not at 'text'")
    return render(said, f"the text of {where}")
