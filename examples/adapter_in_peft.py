"""Use a trained adapter without LLM Installer: it is a plain PEFT adapter, loaded by transformers and PEFT.

Run as: .venv/bin/python examples/adapter_in_peft.py
"""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTION = "Who looks after the lighthouse?"


def train() -> tuple[Path, Path]:
    """The base model and an adapter for it; the only part that needs LLM Installer."""
    from llm_installer import lora_sft
    from llm_installer.api import install
    from llm_installer.core.home import models_dir
    from llm_installer.install.tiny import DATA_FILE

    folder = models_dir() / "tiny"
    if not folder.exists():
        install("tiny")
    result = lora_sft(folder, DATA_FILE, mode="fast", epochs=8, tensorboard=False, skip_test=True)
    return folder / "model", result.adapter


def answer(model: torch.nn.Module, tokenizer, question: str) -> str:
    chat = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**ids, max_new_tokens=40, do_sample=False)
    return tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def main() -> None:
    weights, adapter = train()
    tokenizer = AutoTokenizer.from_pretrained(adapter)  # with the chat template that training used
    base = AutoModelForCausalLM.from_pretrained(weights)
    print("question:", QUESTION)
    print("base:", answer(base, tokenizer, QUESTION))
    tuned = PeftModel.from_pretrained(base, adapter)
    print("tuned:", answer(tuned, tokenizer, QUESTION))


if __name__ == "__main__":
    main()
