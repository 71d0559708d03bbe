"""`llm-installer export` from its words to the file: complete, proven, or absent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig

from llm_installer.api import export
from llm_installer.cli.main import cli
from llm_installer.core.errors import InstallerError, ModelError, UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.export import kinds
from llm_installer.export.gguf import file as gguf_file
from llm_installer.export.gguf.facts import Values
from llm_installer.export.gguf.probes import texts
from llm_installer.export.gguf.receipt import FileReceipt, problems
from llm_installer.export.gguf.tensors import Planned
from llm_installer.export.kinds import KINDS, ExportRequest, chosen_kind, export_as, require
from llm_installer.export.receipt import Answers, Difference
from llm_installer.install.installer import install
from llm_installer.install.tiny import MODEL_DIR
from tests.export.gguf_models import PLAIN


def installed(source: str) -> ModelDir:
    return install(source, say=lambda text: None)


def check_whole(folder: ModelDir, kind: str) -> None:
    """The command on a model: what it says, what it leaves, and what transformers makes of the file alone."""
    done = CliRunner().invoke(cli, ["export", folder.root.name, "--to", "gguf", "--type", kind], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    file = folder.root / f"{folder.root.name}-{kind}.gguf"
    receipt = json.loads((folder.root / f"{file.name}.receipt.json").read_text(encoding="utf-8"))
    assert receipt["kind"] == "gguf" and receipt["tokens_equal"] and receipt["texts"] == 200
    assert receipt["config"] == "file" and receipt["answers"]["equal"] + receipt["answers"]["near_ties"] == 4
    assert "200 of 200 texts equal" in done.output and "llama-cli -m " in done.output
    if kind == "f32":
        assert receipt["tuned"]["largest_logit"] <= 1e-4
        read = AutoTokenizer.from_pretrained(folder.root, gguf_file=file.name)
        own = AutoTokenizer.from_pretrained(folder.weights)
        # That reader leaves out one of two spaces at the beginning of a text; llama.cpp does not.
        some = [text for text in texts() if not text.startswith((" ", "\u00a0"))]
        assert len(some) > 100
        assert [read(text)["input_ids"] for text in some] == [own(text)["input_ids"] for text in some]
    assert [p.name for p in folder.root.iterdir() if p.name.endswith(".part")] == []


@pytest.mark.slow
def test_stories_through_the_whole_command(home: Path, shared: Path) -> None:
    folder = installed(str(shared / "models" / "stories260K"))
    check_whole(folder, "f32")
    with pytest.raises(ModelError, match="is there already"):
        export(folder.root, type="f32")


@pytest.mark.slow
def test_stories_in_8_bits_says_what_stays_f16(home: Path, shared: Path) -> None:
    found = export(installed(str(shared / "models" / "stories260K")).root, type="q8_0")
    assert found.indivisible == tuple(f"blk.{n}.ffn_down.weight" for n in range(5))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_the_built_in_model_through_the_whole_command(kind: str, home: Path) -> None:
    check_whole(installed("tiny"), kind)


@pytest.mark.slow
def test_a_file_that_is_another_model_is_not_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in writing: the other process finds out, and nothing is left."""
    folder = installed("tiny")
    monkeypatch.setattr(gguf_file, "write_gguf", partial(spoilt, gguf_file.write_gguf))
    with pytest.raises(ModelError, match="The file is not what the model is, and was not kept: its logits are up to"):
        export(folder.root, type="f32", out="spoilt.gguf")
    assert not [p.name for p in home.iterdir() if "spoilt" in p.name]


def spoilt(
    write: Callable[..., None], file: Path, arch: str, values: Values, tensors: list[Planned], kind: str
) -> None:
    """Write a norm that is twice as large."""
    wrong = [
        replace(t, read=lambda r=t.read: [p * 2 for p in r()]) if t.name == "output_norm.weight" else t for t in tensors
    ]
    write(file, arch, values, wrong, kind)


def test_what_cannot_be_exported_is_one_sentence(home: Path) -> None:
    folder = home / "mixtral"
    config = MixtralConfig(**PLAIN | {"vocab_size": 2048}, num_local_experts=2, num_experts_per_tok=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    with pytest.raises(ModelError, match="of the family mixtral, and only these can be written as GGUF: gemma2, "):
        export(installed(str(folder)).root)
    tiny = installed("tiny")
    for out, why in (
        ("a:b.gguf", "Windows"),
        ("x.bin", r"does not end with \.gguf"),
        ("no/x.gguf", "There is no folder"),
    ):
        with pytest.raises(UsageError, match=why):
            export(tiny.root, out=out)
    assert not list(tiny.root.glob("*.gguf*")) and not list(tiny.root.glob(".*.gguf*"))


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (ExportRequest(to="exe"), "--to exe is none of gguf, gguf-lora, ollama, mlx"),
        (ExportRequest(type="q4"), "--type q4 is none of f16, f32, bf16, q8_0, q4_k_m, in which gguf can be stored"),
        (ExportRequest(to="mlx", type="f16"), "--type f16 is none of f32"),
        (ExportRequest(to="gguf-lora", no_lora=True), "--no-lora means nothing for --to gguf-lora"),
        (ExportRequest(as_adapter=True), "--as-adapter means nothing for --to gguf"),
        (ExportRequest(run="a", lora="b"), "--run and --lora contradict each other"),
        (ExportRequest(run="a", no_lora=True), "--run and --no-lora contradict each other"),
        (ExportRequest(to="ollama", no_lora=True, as_adapter=True), "--no-lora and --as-adapter contradict"),
    ],
)
def test_words_that_mean_nothing_are_refused(request_: ExportRequest, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        export_as(ModelDir(Path("nowhere")), request_, Silence())


def test_every_kind_takes_its_usual_type() -> None:
    assert all(chosen_kind(ExportRequest(to=name, type=kind.types[0])) is kind for name, kind in KINDS.items())


def test_without_the_package_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InstallerError, match=r"install it with: .* -m pip install gguf$"):
        require(KINDS["gguf"])
    require(KINDS["mlx"])


GOOD = FileReceipt(
    dtype="f32",
    computed_in="float32",
    prompts="prompts",
    tuned=Difference(largest_logit=1e-5, kl=1e-9, same_top=1.0, decided=1.0, positions=10),
    answers=Answers(4, 4, 0),
    texts=200,
    other_tokens=(),
    other_template="",
    config="file",
)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"other_tokens": ("a b",)}, "1 of 200 texts are other tokens"),
        ({"other_template": "Hello!"}, "chat template renders 'Hello!'"),
        ({"tuned": replace(GOOD.tuned, largest_logit=1e-3)}, "logits are up to 0.001"),
        ({"tuned": replace(GOOD.tuned, largest_logit=float("nan"))}, "logits are up to nan"),
        ({"dtype": "q8_0", "tuned": replace(GOOD.tuned, largest_logit=1.0, kl=1e-3)}, ""),
        ({"dtype": "q8_0", "tuned": replace(GOOD.tuned, kl=0.1)}, "0.1 nats per token"),
        ({"answers": Answers(4, 3, 0, ("Hello?",))}, "answers 'Hello?' in other words"),
    ],
)
def test_a_receipt_finds_what_is_wrong(changes: dict[str, object], why: str) -> None:
    receipt = replace(GOOD, **changes)  # type: ignore[arg-type]
    assert why in " ".join(problems(receipt)) and bool(why) is bool([*problems(receipt)])
    assert FileReceipt.of(json.loads(json.dumps(asdict(receipt)))) == receipt or "nan" in why
