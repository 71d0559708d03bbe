"""Train from Python, watch each evaluation and end the run when the loss is low enough.

Run as: .venv/bin/python examples/train_with_callbacks.py
"""

from llm_installer import lora_sft
from llm_installer.api import install
from llm_installer.core.home import models_dir
from llm_installer.install.tiny import DATA_FILE

ENOUGH = 2.0


class Enough:
    """Any object with some of the nine hooks is a callback; docs/guides/watching.md lists them."""

    def on_evaluate(self, context):
        loss = context.metrics["validation_loss"]
        print(f"step {context.step}: validation loss {loss:.2f}")
        if loss < ENOUGH:
            context.stop(f"the validation loss is below {ENOUGH}")


def main() -> None:
    folder = models_dir() / "tiny"
    if not folder.exists():
        install("tiny")
    # Every option of train.sh is a keyword, spelled with underscores.
    result = lora_sft(folder, DATA_FILE, mode="fast", epochs=8, tensorboard=False, skip_test=True, callbacks=Enough())
    print(f"stopped after {result.steps} steps: {result.stop_reason}")
    print(f"loss {result.base_loss:.2f} -> {result.best_loss:.2f}")
    print(f"adapter {result.adapter}")


if __name__ == "__main__":
    main()
