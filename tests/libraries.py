"""Imported first in the process that tests fork commands from: all that a training imports, as it imports it."""

from llm_installer.core.startup import import_bitsandbytes

import_bitsandbytes()  # before peft, which would start the compiler of PyTorch with it

import accelerate  # noqa: E402, F401
import datasets  # noqa: E402, F401
import peft  # noqa: E402, F401
import transformers  # noqa: E402, F401

import llm_installer.train_lora  # noqa: E402, F401
