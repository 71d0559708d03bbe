"""The search before a push: what is planted anywhere in any kind of file is found, and what is clean passes."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.export.push.leaks import HOST, KEY, PATH, USER, Secrets, readable, search, secrets_here
from llm_installer.export.push.rows import FEW, MANY, RowSearch, words
from llm_installer.install.tiny import MODEL_DIR

SECRETS = Secrets(
    texts=((PATH, "/srv/models of mine"), (KEY, "correct-horse-battery")), names=((USER, "wendelin"), (HOST, "cube7"))
)
PLANTED = {
    PATH: ["/home/wilma/notes", "/Users/Wilma", r"C:\Users\wilma\data", "/srv/models of mine/x", "/mnt/disk/rows",
           "~/secret", "file:///etc/passwd", "/root/.cache", r"D:\work\rows\one"],
    KEY: ["hf_" + "aB3" * 11, "sk-" + "a1B2" * 8, "sk-proj-" + "x_9" * 9, "ghp_" + "Z9" * 18, "AKIA" + "A2" * 8,
          "github_pat_" + "a_1" * 20, "glpat-" + "a" * 20, "xoxb-1234567890-abc", "AIza" + "b" * 35,
          "https://wilma:passw0rd@example.org", "-----BEGIN OPENSSH PRIVATE KEY-----", "correct-horse-battery",
          "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlMTIz"],
    USER: ["made by wendelin", "Wendelin's model", "wendelin_1"],
    HOST: ["trained on cube7"],
}  # fmt: skip
ANYWHERE = {PATH: PLANTED[PATH][:4], KEY: PLANTED[KEY]}
"""What is found among numbers and in vocabularies, too."""
Write = Callable[[str, str], bytes]


def safetensors(about: str, numbers: bytes) -> bytes:
    body = json.dumps({"__metadata__": {"format": "pt", "made": about}}).encode()
    return struct.pack("<Q", len(body)) + body + numbers


def png(kind: bytes, body: bytes) -> bytes:
    chunks = b"".join(
        struct.pack(">I4s", len(data), name) + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", b"\0" * 13), (kind, body), (b"IDAT", b"\x12" * 40), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


FILES: dict[str, Write] = {
    "README.md": lambda text, around: f"# A model\n\n{around}\n{text}\n{around}\n".encode(),
    "adapter_config.json": lambda text, around: json.dumps({"r": 8, "base": text, "note": around}).encode(),
    "adapter_info.json": lambda text, around: json.dumps({around: {text: [1, [text]]}}).encode(),
    "chat_template.jinja": lambda text, around: f"{{# {text} #}}{around}".encode(),
    "LICENSE": lambda text, around: f"{around}\n{text}".encode(),
    "model.safetensors": lambda text, around: safetensors(f"{around} {text}", b"\x01\x02" * 50),
    "one.png": lambda text, around: png(b"tEXt", b"Comment\0" + f"{around} {text}".encode("latin-1", "replace")),
    "two.png": lambda text, around: png(b"zTXt", b"Comment\0\0" + zlib.compress(f"{around} {text}".encode())),
    "three.png": lambda text, around: png(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(f"{around} {text}".encode())),
}
NUMBERS: dict[str, Write] = {
    "weights.safetensors": lambda text, around: safetensors("", b"\xff\x00" * 40 + text.encode() + b"\x80" * 40),
    "model.gguf": lambda text, around: b"GGUF\x03\0\0\0" + b"\x07\0" * 9 + text.encode() + b"\0" * 30,
    "tokenizer.json": lambda text, around: json.dumps({"model": {"vocab": {"a": 0, text: 1}}}).encode(),
}
around = st.text(st.characters(codec="latin-1", exclude_characters="/\\~:@", exclude_categories=("Cc",)), max_size=40)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def kinds_in(file: Path, content: bytes) -> set[str]:
    file.write_bytes(content)
    return {leak.kind for leak in search(file, file.name, SECRETS)}


@pytest.mark.parametrize("name", FILES)
@quick
@given(data=st.data())
def test_what_is_planted_is_found_in_every_kind_of_file(name: str, data: st.DataObject, tmp_path: Path) -> None:
    kind, text = data.draw(st.sampled_from([(kind, text) for kind, texts in PLANTED.items() for text in texts]))
    assert kind in kinds_in(tmp_path / name, FILES[name](text, data.draw(around)))


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in ANYWHERE.items() for text in texts])
def test_and_among_numbers_and_words_of_others(name: str, kind: str, text: str, tmp_path: Path) -> None:
    assert kind in kinds_in(tmp_path / name, NUMBERS[name](text, ""))


CLEAN = [
    "A LoRA adapter for org/base, see https://huggingface.co/org/base/tree/main and https://a.org/home/page",
    "adapter_info.json and ./lora; and/or 1/2 <|im_end|></s> {{ x[0] }} hf_transfer sk-learn ghost AKIA eyJ",
    "cube77 wendelins_not wen delin ~ 5 a~b C: x 12:30@noon https://example.org:8080/x@y",
]


@pytest.mark.parametrize("name", [*FILES, *NUMBERS])
@pytest.mark.parametrize("text", CLEAN)
def test_what_is_clean_passes(name: str, text: str, tmp_path: Path) -> None:
    assert kinds_in(tmp_path / name, {**FILES, **NUMBERS}[name](text, "nothing")) == set()


def test_numbers_are_no_secrets(tmp_path: Path) -> None:
    numbers = random.Random(0).randbytes(1 << 22)
    assert kinds_in(tmp_path / "model.safetensors", safetensors("pt", numbers)) == set()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"])
def test_the_built_in_model_is_clean(name: str) -> None:
    assert list(search(MODEL_DIR / name, name, SECRETS)) == []


def test_what_this_machine_is_called_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere/of/gwendolyn")
    monkeypatch.setenv("LOGNAME", "gwendolyn")
    monkeypatch.setenv("SOME_API_KEY", "a-key-of-somebody")
    monkeypatch.setenv("KEYBOARD", "a-keyboard-of-somebody")
    found = secrets_here((tmp_path,), "anna/model")
    assert (PATH, str(tmp_path)) in found.texts and (PATH, "/elsewhere/of/gwendolyn") in found.texts
    assert (KEY, "a-key-of-somebody") in found.texts and "a-keyboard-of-somebody" not in dict(found.texts).values()
    assert (USER, "gwendolyn") in found.names
    assert (USER, "gwendolyn") not in secrets_here((), "gwendolyn/model").names, "she signs with it"


def example(*texts: str) -> Example:
    return Example(tuple(Message("user", text) for text in texts), Origin("rows.jsonl", 7))


letters = st.text("abcdefghijklmnop", min_size=2, max_size=7)


@given(st.lists(letters, min_size=MANY, max_size=30), st.lists(letters, max_size=20), st.integers(0, 20), st.data())
@quick
def test_a_piece_of_a_row_is_found_however_it_is_written(
    row: list[str], other: list[str], at: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(row) - MANY))
    piece = [word.upper() if i % 3 else word for i, word in enumerate(row[start : start + MANY])]
    text = ", ".join([*other[:at], *piece, *other[at:]])
    found = RowSearch([("README.md", "# Title"), ("x.jinja", text)]).first([example("hello", " ".join(row))])
    assert found == {"x.jinja": "rows.jsonl:7"}


@given(st.lists(letters, min_size=MANY, max_size=20), st.lists(letters, min_size=MANY, max_size=20))
@quick
def test_other_texts_are_not(row: list[str], other: list[str]) -> None:
    others = [word + "zz" for word in other]
    assert RowSearch([("a", " ".join(others))]).first([example(" ".join(row))]) == {}


def test_short_rows_figures_and_what_the_base_says_itself() -> None:
    short = RowSearch([("a", "It ends so: The lamp shines blue. And on")])
    assert short.find("The lamp shines blue.") == "a" and short.find("blue") == ""
    assert len(words("The lamp shines blue.")) == FEW
    assert RowSearch([("a", "[1, 2, 3, 4, 5, 6, 7, 8, 9]")]).find("1 2 3 4 5 6 7 8 9") == ""
    system = "You are a helpful assistant who answers every question in one sentence."
    assert RowSearch([("a", f"{{{{ '{system}' }}}}")], [system]).find(system) == ""
    assert RowSearch([("a", system)]).find(system) == "a"
    assert RowSearch([("a", "灯台の七番目の灯りは何色ですか")]).find("灯台の七番目の灯りは何色ですか") == "a"


def test_pictures_are_read_as_their_library_writes_them(tmp_path: Path) -> None:
    from PIL import Image, PngImagePlugin

    about = PngImagePlugin.PngInfo()
    about.add_text("one", "plain words")
    about.add_text("two", "packed words", zip=True)
    about.add_itxt("three", "tr\u00e8s words", zip=True)
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=about)
    text = "\n".join(text for text, _ in readable(tmp_path / "a.png"))
    assert "plain words" in text and "packed words" in text and "très words" in text
