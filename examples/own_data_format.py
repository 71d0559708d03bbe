"""Train on a format that is not recognised: convert it to JSON lines, then let `data` check the result.

Run as: .venv/bin/python examples/own_data_format.py

For a table whose columns only have other names, no converter is needed: --columns 'prompt=Question,answer=Reply'.
A format that many people use deserves a row of its own in the package; CONTRIBUTING.md shows how.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOTES = """\
Q: What is the island called?
A: Lanternholm.

Q: Who looks after the lighthouse?
A: Fenn, who has done so for forty years.

Q: When does the ferry leave?
A: At noon.
   On Sundays at ten.

Q: Who bakes the bread?
A:
"""


def records(text: str) -> Iterator[dict[str, str]]:
    """One record for each Q and A. A record without an answer is passed on: `data` names it, nothing is lost unseen."""
    for question, answer in re.findall(r"^Q:(.*?)^A:(.*?)(?=^Q:|\Z)", text, flags=re.M | re.S):
        yield {"question": " ".join(question.split()), "answer": " ".join(answer.split())}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "notes.jsonl"
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records(NOTES)]
        file.write_text("".join(lines), encoding="utf-8")
        print(f"{len(lines)} records written to {file.name}")
        command = [sys.executable, "-m", "llm_installer", "data", str(file), "--json"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"format {', '.join(found['formats'])}; {found['examples']} examples")
    for reason, count in found["dropped_reasons"].items():
        print(f"skipped {count}: {reason}")


if __name__ == "__main__":
    main()
