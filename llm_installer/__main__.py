"""Run as: python -m llm_installer COMMAND   (or llm-installer COMMAND)"""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; Ctrl-C ends it quietly even while it is imported."""
    try:
        from llm_installer.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
