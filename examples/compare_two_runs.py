"""Train twice, compare the plans and the losses, and keep the better adapter.

Run as: .venv/bin/python examples/compare_two_runs.py

From a shell: llm-installer adapters tiny compare A B, and llm-installer adapters tiny use A
"""

import json

from llm_installer import lora_sft
from llm_installer.api import install
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.state import Result
from llm_installer.install.tiny import DATA_FILE
from llm_installer.runs.listing import use


def plan_of(result: Result) -> dict[str, object]:
    """Every chosen value of a run, without the reasons."""
    plan = json.loads((result.run / "plan.json").read_text(encoding="utf-8"))
    del plan["why"]
    return plan


def main() -> None:
    folder = models_dir() / "tiny"
    if not folder.exists():
        install("tiny")
    # The same data, seed and validation rows: only the rank differs, so the losses can be compared.
    common = {"mode": "fast", "epochs": 2, "tensorboard": False, "skip_test": True}
    results = [lora_sft(folder, DATA_FILE, lora_r=rank, **common) for rank in (2, 16)]
    first, second = map(plan_of, results)
    for name in first:
        if first[name] != second[name]:
            print(f"{name}: {first[name]} or {second[name]}")
    for result in results:
        print(f"{result.run.name}: loss {result.base_loss:.3f} -> {result.best_loss:.3f}")
    better = min(results, key=lambda result: result.best_loss)
    use(ModelDir(folder), better.run.name)  # checks every file of the adapter, then switches the link
    print(f"./lora is {better.run.name}")


if __name__ == "__main__":
    main()
