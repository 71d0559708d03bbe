"""An adapter that was written for mlx-lm, loaded by mlx-lm itself; only where that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_installer.core.paths import ModelDir
from llm_installer.core.voice import Silence
from llm_installer.export.kinds import ExportRequest
from llm_installer.export.pairs import mlx
from llm_installer.export.pairs.forms import form_of
from llm_installer.export.pairs.story import read_pairs
from llm_installer.export.subject import subject_of
from llm_installer.install.tiny import MODEL_DIR
from tests.export.gguf_models import VOCAB, make
from tests.export.made_models import make_adapter

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(("kind", "dora"), [("llama", False), ("llama", True), ("qwen3", False), ("gemma2", False)])
def test_mlx_lm_answers_as_tuned(kind: str, dora: bool, tmp_path: Path) -> None:
    core = pytest.importorskip("mlx.core")
    utils = pytest.importorskip("mlx_lm.utils")
    make(kind, tmp_path / "model")
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(tmp_path / "model")
    folder = ModelDir(tmp_path)
    lora = make_adapter(
        folder,
        tmp_path / "lora",
        target_modules="all-linear",
        use_dora=dora,
        use_rslora=True,
        rank_pattern={"q_proj": 7},
    )
    subject = subject_of(folder, ExportRequest(lora=str(lora)))
    mlx.write(subject.info, read_pairs(subject, form_of("mlx"), Silence()), tmp_path / "mlx", "f32")
    model, _ = utils.load_model(tmp_path / "model")
    model = utils.load_adapters(model, str(tmp_path / "mlx"))
    ids = torch.randint(3, VOCAB, (1, 12), generator=torch.Generator().manual_seed(1))
    found = torch.tensor(model(core.array(ids.tolist())).tolist())
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "model"), str(lora)).eval()
    with torch.no_grad():
        wanted = tuned(input_ids=ids).logits
    assert float((found - wanted).abs().max()) < 1e-3
