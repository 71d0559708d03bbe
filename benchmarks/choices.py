"""What the automatic numbers leave on the table: models x data sets x settings, judged outside of the trainer.

Run as: python benchmarks/choices.py --data ../shared/data --model ../shared/models/stories260K --out choices/
        [--own-model wiki5M] [--set gsm8k] [--setting medium] [--seeds 3]

Every result is a file in --out: what is there is not run again, and several of these commands, on as many processors
or GPUs, share the work. The tables are printed at the end, and by --table alone; --write puts them into a document.

Regret = (loss of the default - lowest loss of any setting) / (loss of the base - lowest loss), on rows put aside
before training, per answer token, in float32 by transformers and PEFT.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

DEFAULT = "medium"
LONG = "16 epochs, never stopped"
"""Its curve is gone through again with the rules that would have ended it."""
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
CURVE = ("step", "train_loss", "validation_loss", "noise")
PUT_ASIDE = 0.15
"""Share of the rows that the judge keeps for itself."""


@dataclass(frozen=True)
class DataSet:
    """Real rows: where they lie under --data, and how many are taken."""

    name: str
    file: str
    rows: int
    unit: str = "records"
    """`lines` where the file is text."""


SETS = (
    DataSet("alpaca", "alpaca/alpaca_en_demo.json", 400),
    DataSet("gsm8k", "qa/gsm8k_train.jsonl", 400),
    DataSet("turkish", "openai/turkish_dialogues_test.jsonl", 300),
    DataSet("shakespeare", "text/tinyshakespeare.txt", 1000, unit="lines"),
    DataSet("fastchat", "sharegpt/fastchat_dummy_conversation.json", 500),
    DataSet("chinese", "alpaca/alpaca_zh_demo.json", 300),
    DataSet("wikisql", "text/mlx_wikisql_train.jsonl", 600),
)

SETTINGS: dict[str, dict[str, object]] = {
    DEFAULT: {},
    "slow": {"mode": "slow"},
    "fast": {"mode": "fast"},
    "adaptive": {"mode": "adaptive"},
    "attention alone": {"target_modules": "q_proj,k_proj,v_proj,o_proj"},
    "4 rows": {"effective_batch_size": 4},
    "8 rows": {"effective_batch_size": 8},
    "16 rows": {"effective_batch_size": 16},
    "rate / 2": {"rate": 0.5},
    "rate x 2": {"rate": 2.0},
    "3 epochs": {"epochs": 3.0},
    "3 epochs, 8 rows": {"epochs": 3.0, "effective_batch_size": 8},
    "rank 32, 8 rows": {"lora_r": 32, "effective_batch_size": 8},
    "4 epochs": {"epochs": 4.0},
    "5 epochs": {"epochs": 5.0},
    "8 epochs": {"epochs": 8.0},
    "4 epochs, 4 rows": {"epochs": 4.0, "effective_batch_size": 4},
    "4 epochs, rank 32": {"epochs": 4.0, "lora_r": 32},
    "4 epochs, rate x 2": {"epochs": 4.0, "rate": 2.0},
    "rank 32": {"lora_r": 32},
    "8 epochs, rank 32, 4 rows": {"epochs": 8.0, "lora_r": 32, "effective_batch_size": 4},
    "8 epochs, rate / 2": {"epochs": 8.0, "rate": 0.5},
    "16 epochs": {"epochs": 16.0},
    LONG: {"epochs": 16.0, "force_epochs": True},
}
"""Options of lora_sft by name; `rate` is times the rate that the plan would have chosen."""


@dataclass(frozen=True)
class Trial:
    """One run."""

    model: Path
    data: DataSet
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """What its file is called."""
        words = f"{self.model.name}.{self.data.name}.{self.setting}.{self.seed}"
        return "".join(c if c.isalnum() or c == "." else "_" for c in words)


@dataclass
class Pair:
    """All that was measured of a model on a data set, by setting and seed."""

    losses: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    cpu: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    """Seconds of the processor: other work on the machine takes none of them."""
    bases: dict[int, float] = field(default_factory=dict)

    @property
    def usual(self) -> float:
        """The default's loss, over all seeds."""
        return statistics.mean(self.losses[DEFAULT].values())

    @property
    def base(self) -> float:
        """The loss of the model as it came."""
        return statistics.mean(self.bases[seed] for seed in self.losses[DEFAULT])

    def loss(self, setting: str) -> float:
        """The default's loss and what the setting changed in it, over the seeds that both have: each seed puts other
        rows aside."""
        mine, usual = self.losses[setting], self.losses[DEFAULT]
        return self.usual + statistics.mean(mine[seed] - usual[seed] for seed in mine.keys() & usual.keys())

    def times(self, setting: str) -> float:
        """How many times as long as the default it took."""
        mine, usual = self.cpu[setting], self.cpu[DEFAULT]
        return statistics.mean(mine[seed] / usual[seed] for seed in mine.keys() & usual.keys())

    @property
    def lowest(self) -> str:
        """The setting with the lowest loss."""
        return min(self.losses, key=self.loss)

    def regret(self, setting: str) -> float:
        """The share of the reachable gain that a setting leaves."""
        lowest = self.loss(self.lowest)
        return (self.loss(setting) - lowest) / (self.base - lowest)


def main() -> None:
    """Run what is missing, print the table."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--model", type=Path, action="append", default=[], help="a model in the Hugging Face layout")
    parse.add_argument("--own-model", type=Path, help="one of 5M parameters, trained there first if it is not there")
    parse.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parse.add_argument("--out", type=Path, required=True, help="folder for the results, one file each")
    parse.add_argument("--set", action="append", choices=[one.name for one in SETS], help="only this data set")
    parse.add_argument("--setting", action="append", choices=list(SETTINGS), help="only this setting")
    parse.add_argument("--seeds", type=int, default=1)
    parse.add_argument("--table", action="store_true", help="only print what is there")
    parse.add_argument("--write", type=Path, help=f"a document that gets the tables, between {BEGIN} and {END}")
    given = parse.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    given.out.mkdir(parents=True, exist_ok=True)
    if given.own_model:
        if not (given.own_model / "config.json").exists():
            from own_model import make

            make(given.data, given.own_model)
        given.model.append(given.own_model)
    trials = [
        Trial(model.resolve(), data, setting, seed)
        for seed in range(1, given.seeds + 1)
        for data in SETS
        if not given.set or data.name in given.set
        for model in given.model
        for setting in given.setting or SETTINGS
    ]
    for trial in trials if not given.table else ():
        settled(trial, given.data, given.out)
    print(table(given.out))
    if given.write:
        written(given.write, table(given.out))


def settled(trial: Trial, source: Path, out: Path) -> None:
    """Run a trial, unless it has a result or another process is at it."""
    file = out / f"{trial.name}.json"
    try:
        with FileLock(out / f".{trial.name}.lock", timeout=0), tempfile.TemporaryDirectory() as folder:
            if file.exists():
                return
            found = run(trial, source, Path(folder))
            fresh = file.with_suffix(".new")
            fresh.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            fresh.rename(file)
    except Timeout:
        return
    print(f"{trial.model.name}, {trial.data.name}, {trial.setting}, seed {trial.seed}: {found['loss']:.4f}", flush=True)


def run(trial: Trial, source: Path, folder: Path) -> dict[str, object]:
    """One run of the product itself, and the losses of base and adapter on the rows that were put aside."""
    from llm_installer.api import install
    from llm_installer.core.paths import Run
    from llm_installer.core.voice import Silence
    from llm_installer.planning.options import Options
    from llm_installer.train_lora import decide
    from llm_installer.train_lora import run as train

    os.environ["LLM_HOME"] = str(folder / "home")
    model = install(str(trial.model), link=True)
    learned, judged = write_rows(trial, source, folder)
    asked = dict(SETTINGS[trial.setting])
    scale = asked.pop("rate", None)
    asked |= {"model_path": str(model), "data": str(learned), "seed": trial.seed}
    asked |= {"skip_test": True, "tensorboard": False, "allow_cut_answers": True, **_as_lines(learned)}
    if scale:
        usual = decide(Options.from_kwargs(**asked), Silence()).plan.learning_rate
        asked["learning_rate"] = usual * float(str(scale))
    began, used = time.monotonic(), time.process_time()
    found = train(Options.from_kwargs(**asked), Silence())
    assert found is not None, "there is one process"
    seconds, cpu = time.monotonic() - began, time.process_time() - used
    files = Run(found.result.run)
    plan = json.loads(files.plan.read_text(encoding="utf-8"))
    told = [json.loads(line) for line in files.metrics.read_text(encoding="utf-8").splitlines()]
    base, loss = losses(judged, model / "model", found.result.adapter, plan["max_seq_length"])
    return {
        "model": trial.model.name, "data": trial.data.name, "setting": trial.setting, "seed": trial.seed,
        "base": base, "loss": loss, "seconds": round(seconds, 2), "cpu": round(cpu, 2),
        "steps": found.result.steps, "best_step": found.result.best_step, "stopped": found.result.stop_reason,
        "curve": [{name: e[name] for name in CURVE} for e in told if e["kind"] == "evaluation"],
        "plan": plan,
    }  # fmt: skip


def write_rows(trial: Trial, source: Path, folder: Path) -> tuple[Path, Path]:
    """The rows to train on and those put aside, as files of the format that they had; the same for all settings."""
    file = source / trial.data.file
    chance = random.Random(f"{trial.data.name} {trial.seed}")
    if trial.data.unit == "lines":
        lines = file.read_text(encoding="utf-8").splitlines()
        rows: list[object] = list(dict.fromkeys(line for line in lines if line.strip()))
    else:
        text = file.read_text(encoding="utf-8")
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(each) for each in text.splitlines()]
    rows = chance.sample(rows, min(trial.data.rows, len(rows)))
    aside = round(PUT_ASIDE * len(rows))
    parts = folder / f"learn.{_ending(trial)}", folder / f"judge.{_ending(trial)}"
    for part, chosen in zip(parts, (rows[aside:], rows[:aside]), strict=True):
        lines = [str(row) if trial.data.unit == "lines" else json.dumps(row, ensure_ascii=False) for row in chosen]
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return parts


def _ending(trial: Trial) -> str:
    return "txt" if trial.data.unit == "lines" else "jsonl"


def _as_lines(file: Path) -> dict[str, object]:
    """Each line of a text is a row, for all settings: how text is divided is another question."""
    return {"text_rows": "lines"} if file.suffix == ".txt" else {}


def losses(file: Path, weights: Path, adapter: Path, longest: int) -> tuple[float, float]:
    """Mean loss per answer token of `file`, in nats, without and with the adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from llm_installer.core.model_info import read_model_info
    from llm_installer.data.encoding.encode import Encoder
    from llm_installer.data.encoding.tokenizer import load_tokenizer
    from llm_installer.data.prepare import prepare, read
    from llm_installer.planning.options import Options
    from llm_installer.planning.registry import find_handler

    options = Options.from_kwargs(
        data=str(file), validation_split=0.0, max_seq_length=longest, allow_cut_answers=True, **_as_lines(file)
    )
    info = read_model_info(weights)
    prepared = prepare(read(options, Path("/")), Encoder(load_tokenizer(adapter)), options, info, find_handler(info))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).to(device)
    tuned = PeftModel.from_pretrained(base, adapter).float().eval()

    def judge() -> float:
        total = count = 0.0
        for row in prepared.train:
            ids = torch.from_numpy(row.ids[None].astype("int64")).to(device)
            scores = tuned(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
            told = scores.gather(-1, ids[0, 1:, None])[:, 0]
            learned = torch.from_numpy(row.supervised[1:]).to(device)
            total, count = total - float(told[learned].sum()), count + float(learned.sum())
        return total / count

    with torch.no_grad():
        after = judge()
        with tuned.disable_adapter():
            return judge(), after


def measured(out: Path) -> dict[tuple[str, str], Pair]:
    """What lies in `out`, by model and data set; pairs without the default say nothing of it and are left out."""
    found: dict[tuple[str, str], Pair] = defaultdict(Pair)
    for file in sorted(out.glob("*.json")):
        one = json.loads(file.read_text(encoding="utf-8"))
        pair, setting, seed = found[one["model"], one["data"]], one["setting"], one["seed"]
        pair.losses[setting][seed], pair.cpu[setting][seed] = one["loss"], one["cpu"]
        pair.bases[seed] = one["base"]
    for pair in found.values():
        usual = pair.losses.get(DEFAULT, {})
        for setting in [name for name, seeds in pair.losses.items() if not seeds.keys() & usual.keys()]:
            del pair.losses[setting]
    return {about: pair for about, pair in sorted(found.items()) if DEFAULT in pair.losses}


def table(out: Path) -> str:
    """Losses, regrets and times in Markdown, and what costs most."""
    pairs = measured(out)
    settings = [name for name in SETTINGS if any(name in pair.losses for pair in pairs.values())]
    lines = [
        f"| model | data | seeds | base | {' | '.join(settings)} | regret of {DEFAULT} |",
        "|---" * (5 + len(settings)) + "|",
    ]
    for (model, data), pair in pairs.items():
        losses = {name: f"{pair.loss(name):.3f}" if name in pair.losses else "" for name in settings}
        losses[pair.lowest] = f"**{losses[pair.lowest]}**"
        cells = [model, data, str(len(pair.losses[DEFAULT])), f"{pair.base:.3f}", *losses.values()]
        lines.append(f"| {' | '.join(cells)} | {pair.regret(DEFAULT):.1%} |")
    lines += ["", "| setting | mean regret | worst | processor time | pairs |", "|---|---|---|---|---|"]
    for name in settings:
        own = [pair for pair in pairs.values() if name in pair.losses]
        regrets, times = [pair.regret(name) for pair in own], statistics.mean(pair.times(name) for pair in own)
        lines.append(f"| {name} | {statistics.mean(regrets):.1%} | {max(regrets):.1%} | x {times:.2f} | {len(own)} |")
    return "\n".join([*lines, "", costliest(pairs), *stopping(out)])


def stopping(out: Path) -> list[str]:
    """Where the rules would have ended the runs that were never stopped, beside the best step that these had."""
    lines = ["", "| never stopped | best step | would end at | with the best of | regret | steps |", "|---" * 6 + "|"]
    for file in sorted(out.glob("*.json")):
        one = json.loads(file.read_text(encoding="utf-8"))
        if one["setting"] != LONG:
            continue
        curve = one["curve"]
        best = min(curve[1:], key=lambda e: e["validation_loss"])
        end, kept = ended(curve, one["plan"]["task"])
        gain = curve[0]["validation_loss"] - best["validation_loss"]
        regret = (kept["validation_loss"] - best["validation_loss"]) / gain
        cells = [f"{one['model']}, {one['data']}", best["step"], end["step"], kept["step"], f"{regret:.1%}"]
        lines.append(f"| {' | '.join(map(str, cells))} | x {end['step'] / best['step']:.2f} |")
    return lines if len(lines) > 3 else []


def ended(curve: list[dict[str, float]], task: str) -> tuple[dict[str, float], dict[str, float]]:
    """(the evaluation at which mode medium ends, the best one until then), without what it does before it ends where
    the learning rate was too high."""
    from llm_installer.core.state import Evaluation, RunState
    from llm_installer.planning.modes import MODES
    from llm_installer.planning.stopping import TASKS, stop_reason

    state = RunState()
    for number, e in enumerate(curve):
        state.step = int(e["step"])
        losses = e["train_loss"], e["validation_loss"]
        state.record(Evaluation(state.step, 0.0, *losses, 0.0, 0.0, 0.0, 0.0, e["noise"]))
        if number and stop_reason(state, TASKS[task], MODES[DEFAULT].stop_rules):  # type: ignore[index]
            break
    return e, next(past for past in curve if past["step"] == state.best_step)


def costliest(pairs: dict[tuple[str, str], Pair]) -> str:
    """The one setting that would lower the loss most, as a share of the reachable gain."""
    gains = defaultdict(list)
    for pair in pairs.values():
        for name in pair.losses.keys() - {DEFAULT}:
            gains[name].append(pair.regret(DEFAULT) - pair.regret(name))
    if not gains:
        return "Nothing was measured but the default."
    most = max(gains, key=lambda name: statistics.mean(gains[name]))
    return f"What costs most: {most} would gain {statistics.mean(gains[most]):.1%} on {len(gains[most])} pairs."


def written(file: Path, text: str) -> None:
    """Put the tables into a document, between two lines that stay. Raises ValueError where they are not there."""
    before, _, rest = file.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{file} has no lines {BEGIN} and {END}")
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
