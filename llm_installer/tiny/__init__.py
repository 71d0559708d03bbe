"""The built-in model `tiny`: where its weights, its example data and the questions to test it lie."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL_DIR = HERE / "model"
DATA_FILE = HERE / "quickstart.jsonl"
QUESTIONS_FILE = HERE / "quickstart_questions.jsonl"
