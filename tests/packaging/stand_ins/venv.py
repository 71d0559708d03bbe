"""Stands in for the standard library's venv: an environment without packages, made at once."""

import json
import os
import sys
from pathlib import Path


def main(folder: Path) -> None:
    with open(os.environ["STUB_CALLS"], "a", encoding="utf-8") as calls:
        calls.write(json.dumps(["venv", str(folder)]) + "\n")
    if "STUB_VENV_FAILS" in os.environ:
        sys.exit(os.environ["STUB_VENV_FAILS"])
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
