"""Models from Python: what `load` finds by name, run, adapter and result, and what it answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llm_installer import load, load_lora_model, trainable_parameters
from llm_installer.core.errors import AdapterError, InstallerError, UsageError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.state import Result
from llm_installer.inference.chat import Conversation
from llm_installer.inference.generate import Sampling
from llm_installer.inference.load import load_assistant
from llm_installer.runs.listing import use
from tests.made_runs import make_run

Adapters = dict[str, Path]
QUESTION = "Where does Fenn live?"


@pytest.fixture
def run(tiny: Path, adapters: Adapters) -> Run:
    """A run of the built-in model whose adapter is the good one."""
    found = make_run(ModelDir(tiny), "20261120-090000-fast", 1e-3)
    shutil.rmtree(found.adapter)
    shutil.copytree(adapters["good"], found.adapter)
    return found


def test_every_way_to_name_a_run_loads_its_adapter(tiny: Path, run: Run, adapters: Adapters) -> None:
    result = Result(run.root, run.adapter, 12, 12, 3.0, 2.0, "all epochs are done", True)
    chat = Conversation(load_assistant(ModelDir(tiny), adapters["good"]), Sampling(12))
    right, base = chat.ask(QUESTION), load(tiny, no_lora=True)
    ways = (
        load(result), load(run.root), load("tiny", run="last"), load(tiny, run="fast"), load(tiny, lora=run.adapter),
        load_lora_model(base_model_path="tiny", lora_adapter_path=adapters["good"], device="cpu"),
    )  # fmt: skip
    assert {one.ask(QUESTION, max_new_tokens=12) for one in ways} == {right}
    assert base.adapter == "" and base.ask(QUESTION, max_new_tokens=12) != right
    assert load("tiny").adapter == "", "there is no ./lora yet"
    use(ModelDir(tiny), "last")
    assert load("tiny").ask(QUESTION, max_new_tokens=12) == right


def test_texts_are_continued_alone_and_together(tiny: Path) -> None:
    model = load(tiny)
    texts = ["Fenn", "The house of Fenn is", "Who"]
    alone = [model.generate(text, max_new_tokens=8) for text in texts]
    assert model.generate_all(texts, max_new_tokens=8) == alone and len({*alone}) > 1
    assert model.generate_all([]) == []
    assert len(model.tokenizer(model.generate("Fenn", max_new_tokens=2))["input_ids"]) <= 2
    hot = {model.generate("Fenn", max_new_tokens=8, temperature=2.0) for _ in range(4)}
    assert len(hot) > 1
    talk = model.conversation("Be brief.", max_new_tokens=4)
    talk.ask(QUESTION)
    talk.ask("And then?")
    assert [turn.role for turn in talk.turns] == ["user", "assistant"] * 2
    for call, says in (
        (lambda: model.generate(""), "Text 1 is empty"),
        (lambda: model.generate("word " * 5000), "shorten it"),
        (lambda: model.generate_all("Fenn"), "takes a list of texts; use generate for one"),
        (lambda: model.ask("Fenn", max_new_tokens=0), "max_new_tokens=0: it must be a whole number from 1"),
        (lambda: model.ask("Fenn", temperature=-1), "temperature=-1: it must be 0 or more"),
        (lambda: model.ask("Fenn", top_p=0), "top_p=0: it must be more than 0"),
    ):
        with pytest.raises(UsageError) as raised:
            call()
        assert says in str(raised.value)


def test_parameters_are_those_of_base_and_adapter(tiny: Path, adapters: Adapters) -> None:
    base, tuned = (trainable_parameters(load(tiny, lora=lora)) for lora in (None, adapters["good"]))
    assert base.trainable == 0 and tuned.all == base.all + tuned.trainable
    rank, sizes = 8, [tuple(p.shape) for n, p in load(tiny).model.named_parameters() if _adapted(n)]
    assert tuned.trainable == sum(rank * (rows + columns) for rows, columns in sizes)
    assert str(tuned).startswith(f"{tuned.trainable:,} of {tuned.all:,} parameters are trainable (")


def _adapted(name: str) -> bool:
    return any(part in name for part in ("q_proj", "up_proj", "down_proj"))


def test_mistakes_are_one_sentence_in_the_words_of_python(tiny: Path, run: Run) -> None:
    result = Result(run.root, run.adapter, 12, 12, 3.0, 2.0, "", True)
    for call, error, says in (
        (lambda: load(tiny, run="last", no_lora=True), UsageError, "lora, run and no_lora=True contradict each other"),
        (lambda: load(result, run="last"), UsageError, "names a run already; leave out lora, run and no_lora=True"),
        (lambda: load(tiny, use_4bit=True, use_8bit=True), UsageError, "use_4bit=True and use_8bit=True contradict"),
        (lambda: load(tiny, lora="nowhere"), AdapterError, "nowhere; train one with"),
        (lambda: load("nothing"), InstallerError, "nothing"),
        (lambda: load_lora_model(tiny, run.adapter, "cuda:0"), UsageError, "device='cuda:0': models are loaded to cpu"),
    ):
        with pytest.raises(error) as raised:
            call()
        assert says in str(raised.value) and "--" not in str(raised.value).partition("llm-installer")[0]
