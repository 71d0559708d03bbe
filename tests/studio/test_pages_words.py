"""What a page says: nobody is told to type a command or is shown a path of this machine, and one thing has one word."""

from __future__ import annotations

import re
import time

import pytest

from llm_installer.core.paths import ModelDir
from llm_installer.studio.pages import grouped
from llm_installer.studio.pages.drawing import templates
from llm_installer.studio.pages.report import report_parts
from llm_installer.studio.pages.words import for_page
from llm_installer.studio.states import COMPLETED
from tests.studio.test_pages import RUN, Open, folder, opened_studio

__all__ = ["folder", "opened_studio"]


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("Invalid value for '--epochs': 'abc' is not a number", "Invalid value for “epochs”: 'abc' is not a number"),
        ("a.csv: no records; correct it, or run without --strict", "a.csv: no records; correct it"),
        ("tiny has no runs yet; start one with: ~/LLM/models/tiny/train.sh --data my.json", "tiny has no runs yet"),
        ("A job may not say 'x'; see what it may with: llm-installer train --help", "A job may not say 'x'"),
        ("--max-seq-length 512 is more than tiny reads", "“sequence length” 512 is more than tiny reads"),
        (
            "float32 would need at least 3 GiB; with --method qlora it fits",
            "float32 would need at least 3 GiB; it fits with “method” qlora, which holds it in 4 bits",
        ),
        (
            "GGUF files are written with the package gguf; install it with: /x/python -m pip install gguf",
            "GGUF files are written with the package gguf; whoever looks after this machine can install it: "
            "pip install gguf",
        ),
        ("the rate -- high; ./lora is as it was.", "the rate -- high; what is in use stays the same."),
        (
            "./lora is as it was, for 5 steps can hardly have taught it anything. Use this adapter anyway with: "
            "./llm-installer adapters tiny use 20260101-100000-medium",
            "What is in use stays the same, for 5 steps can hardly have taught it anything. “Use this one” uses it "
            "anyway.",
        ),
        (
            "No evaluation beat the base model, so ./lora is as it was; this adapter is /srv/LLM home/tiny/adapter.",
            "No evaluation beat the base model, so what is in use stays the same.",
        ),
        (
            "./lora is as it was; this adapter, from step 1,200, is ~/LLM/models/tiny/runs/x/adapter.",
            "What is in use stays the same.",
        ),
        ("The run was interrupted by SIGTERM at step 191 of 4,200.", "The run was interrupted at step 191 of 4,200."),
        (
            "Run x is served by process 256 (http://127.0.0.1:46039); end that first, with Ctrl-C where it was started",
            "Run x is loaded for a chat; press “Free its memory” on the page “Chat” first",
        ),
        ("you asked it to stop with --stop-now", "you asked it to stop"),
        (
            "./lora is now the adapter of this run, from step 5, its best. Before, it was ~/mine/adapter.",
            "This run was put to use, from step 5, its best.",
        ),
        ("./lora is as it was; the best adapter so far is '/srv/a b/adapter'.", "What is in use stays the same."),
        ("./lora names this run, and holds its best adapter so far.", "This run is in use, at its best so far."),
        (
            "Interrupted by SIGTERM at step 3; ./lora is as it was, the best adapter so far is ~/tiny/runs/x/adapter; "
            "resume with: ./train.sh --resume",
            "Interrupted by SIGTERM at step 3; what is in use stays the same; it goes on where it was with “Go on”",
        ),
        ("It is there. Talk to it with: ./start.sh --lora x", "It is there."),
        (
            "The folder is read-only; allow it, for example with: chmod -R u+rwX ~/LLM",
            "The folder is read-only; allow it",
        ),
    ],
)
def test_words_of_a_terminal_become_words_of_a_page(said: str, here: str) -> None:
    assert for_page(said) == here


def test_a_report_names_files_and_no_commands() -> None:
    text = "# tiny: run x\n\nTrained on /a/b/qa.csv for 5 steps. A longer run (--epochs 4).\n\n"
    text += "./lora is now the adapter of this run, from step 5. Before, it was run y (loss 2 -> 1); "
    text += "go back with: ./llm-installer adapters tiny use y\n"
    text += "\n## Rows\n\n| row | loss |\n| --- | --- |\n| /a/b/qa.csv:18 | 1.5 |\n"
    assert report_parts(text) == [
        (
            "",
            "Trained on qa.csv for 5 steps. A longer run (“epochs” 4).\n\n"
            "This run was put to use, from step 5. Before, it was run y (loss 2 -> 1); “Use this one” on its page goes "
            "back to it.",
        ),
        ("Rows", "| row | loss |\n| --- | --- |\n| qa.csv:18 | 1.5 |"),
    ]


def test_the_report_of_an_interrupted_run_tells_nobody_to_type() -> None:
    text = "# tiny: run x\n\nTraining on /a/b/qa.csv was interrupted by SIGINT at step 3. Nothing is lost; resume with:"
    text += "\n\n    /srv/tiny/train.sh --resume\n\n./lora is as it was; the adapter was not evaluated yet.\n"
    ((title, said),) = report_parts(text)
    assert title == "" and said.splitlines() == [
        "Training on qa.csv was interrupted at step 3. Nothing is lost; it goes on where it was with “Go on”",
        *[""] * 3,
        "What is in use stays the same; the adapter was not evaluated yet.",
    ]


def test_one_word_for_what_ended_well_whoever_trained_it(opened_studio: Open, folder: ModelDir) -> None:
    job = opened_studio.job(COMPLETED)
    for path in ("/runs", f"/runs/tiny/{RUN}", f"/runs/{job.id}"):
        shown = re.sub(r"<[^>]*>", " ", opened_studio.http.get(path).text)
        assert "completed" in shown and "finished" not in shown, path


def test_a_value_is_found_by_the_word_that_people_look_for(opened_studio: Open, folder: ModelDir) -> None:
    setting = {"name": "use_rslora", "help": "", "choices": [], "type": "switch", "given": None}
    scale = {"name": "LoRA scale", "value": "4", "why": "alpha / rank", "setting": setting}
    values: dict[str, object] = {"found": {"error": "no"}, "file": {"id": "f"}, "given": {}, "model": "tiny"}
    text = templates().get_template("plan.html").render(**values, groups=grouped.groups([scale]), seen={"names": []})
    assert "LoRA scale (rsLoRA)</label>" in text and ">on (rsLoRA)</option>" in text


@pytest.mark.parametrize("part", ["a", "python", "/a", "; this adapter is ~", "--a-", "(", "train.sh", "word. "])
def test_a_very_long_line_is_read_in_a_moment(part: str) -> None:
    began = time.process_time()
    for_page(part * (20_000 // len(part)))
    assert time.process_time() - began < 5
