"""Teach LLM Installer a model family: a handler file in LLM_HOME/handlers wins over the built-in one.

Run as: .venv/bin/python examples/own_handler.py

It works in a temporary LLM_HOME, so that your own handlers stay as they are.
"""

import json
import os
import tempfile
from pathlib import Path

HANDLER = '''"""Llama models, with LoRA on the MLP only."""

from llm_installer.core.handler import Handler

HANDLER = Handler(
    name="llama-mlp",
    model_types=("llama",),
    target_modules=("gate_proj", "up_proj", "down_proj"),
    max_length=512,
)
'''


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["LLM_HOME"] = home
        file = Path(home) / "handlers" / "llama_mlp.py"
        file.parent.mkdir()
        file.write_text(HANDLER, encoding="utf-8")
        train()


def train() -> None:
    from llm_installer import lora_sft
    from llm_installer.api import install
    from llm_installer.install.tiny import DATA_FILE

    folder = install("tiny")
    result = lora_sft(folder, DATA_FILE, mode="fast", tensorboard=False, skip_test=True)
    config = json.loads((result.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    plan = json.loads((result.run / "plan.json").read_text(encoding="utf-8"))
    print("adapted layers:", ", ".join(sorted(config["target_modules"])))
    print("because:", plan["why"]["target_modules"])


if __name__ == "__main__":
    main()
