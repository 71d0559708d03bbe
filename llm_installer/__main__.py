"""Run as: python -m llm_installer COMMAND   (or llm-installer COMMAND)"""

from __future__ import annotations

from llm_installer.cli.main import main

if __name__ == "__main__":
    main()
