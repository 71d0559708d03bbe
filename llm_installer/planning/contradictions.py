"""Options that exclude each other, each with the sentence that says so."""

from __future__ import annotations

from collections.abc import Callable

from llm_installer.core.errors import UsageError
from llm_installer.core.handler import EXPERTS
from llm_installer.planning.method import FLOAT8, MOVES_BASE, four_bits, quantisation
from llm_installer.planning.options import Options
from llm_installer.planning.ranks import ranks


def refuse_contradictions(options: Options) -> None:
    """Raise UsageError for options that exclude each other; cheap, so it comes before any data is read."""
    for clash, sentence in _CLASHES:
        if clash(options):
            raise UsageError(sentence.format(init=options.init_lora_weights, four=four_bits(options)))


def _experts(options: Options) -> bool:
    return EXPERTS in (options.target_modules or "").split(",")


_CLASHES: tuple[tuple[Callable[[Options], bool], str], ...] = (
    (
        lambda o: o.use_8bit and (o.use_4bit or o.method == "qlora"),
        "{four} and --use-8bit contradict each other; give one of them",
    ),
    (
        lambda o: o.method == FLOAT8 and (o.use_4bit or o.use_8bit),
        "--method fp8 holds the base in float8, and --use-4bit and --use-8bit hold it in other ways; give one of them",
    ),
    (
        lambda o: o.method == FLOAT8 and o.use_dora,
        "--use-dora needs the size of every weight, which PEFT cannot read from a base in float8; leave out one of the "
        "two",
    ),
    (
        lambda o: o.method == "lora" and o.use_4bit,
        "--method lora and --use-4bit contradict each other: 4 bits are --method qlora; leave out one of the two",
    ),
    (
        lambda o: o.init_lora_weights in MOVES_BASE and bool(quantisation(o)),
        "--init-lora-weights {init} needs unquantised weights, and a quantised base has none; leave out one of the two",
    ),
    (
        lambda o: o.use_8bit and o.use_dora,
        "--use-dora needs the size of every weight, which PEFT cannot read from an 8-bit base; "
        "use --use-4bit, or leave out one of the two",
    ),
    (
        lambda o: o.init_lora_weights in MOVES_BASE and o.use_dora,
        "--init-lora-weights {init} and --use-dora both take the weights apart, each in its own way; give one of them",
    ),
    (
        lambda o: _experts(o) and (bool(o.lora_dropout) or o.use_dora or o.init_lora_weights in MOVES_BASE),
        "PEFT has no --lora-dropout, --use-dora, pissa and olora for experts; leave those out, or the word experts in "
        "--target-modules",
    ),
    (
        lambda o: len(ranks(o.lora_r)) > 1 and o.mode == "non-stop",
        "A rank grows over the length of the run, and mode non-stop has none; give --lora-r one rank, or another mode",
    ),
    (
        lambda o: len(ranks(o.lora_r)) > 1 and (_experts(o) or o.init_lora_weights in MOVES_BASE),
        "A rank cannot grow with pissa and olora, nor for experts; give --lora-r one rank, or leave those out",
    ),
    (
        lambda o: o.fast == "off" and o.packing == "on",
        "--fast off and --packing on contradict each other: plain PEFT does not pack; leave out one of the two",
    ),
    (
        lambda o: o.fast == "off" and o.compile == "on",
        "--fast off and --compile on contradict each other: plain PEFT compiles nothing; leave out one of the two",
    ),
)
