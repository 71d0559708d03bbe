"""Fine-tune the model in this folder. Run as: python train_lora.py --data my.json (all options: --help)"""

import runpy
import sys
from pathlib import Path

sys.argv[1:1] = ["train", "--model-path", str(Path(__file__).resolve().parent)]
runpy.run_module("llm_installer", run_name="__main__", alter_sys=True)
