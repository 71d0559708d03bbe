"""The built-in model `tiny`: where its weights, its example data and its test questions are."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL_DIR = HERE / "model"
DATA_FILE = HERE / "quickstart.jsonl"
QUESTIONS_FILE = HERE / "quickstart_questions.jsonl"
