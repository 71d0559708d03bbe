"""`llm-installer serve` as a user starts it: what it prints works as it stands, and Ctrl-C ends it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_installer.cli.main import cli
from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.served import servers
from llm_installer.install.installer import install

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "serving.md"


@pytest.mark.slow
def test_what_it_prints_works_and_ctrl_c_ends_it(
    start: Callable[..., subprocess.Popen[str]], llm_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    openai = pytest.importorskip("openai")
    folder = ModelDir(install("tiny", say=lambda text: None).root)
    process = start("serve", "tiny", "--port", "0")
    assert process.stdout
    lines: list[str] = []
    while not lines or "print(" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1] or process.poll() is None, "".join(lines)
    printed = "".join(lines)
    address = re.search(r"http://127\.0\.0\.1:\d+", printed)
    assert address and "  tiny  the base" in printed
    snippet = printed[printed.index("  from openai") :].replace("\n  ", "\n")[2:]
    exec(snippet)
    assert "Tiny" in capsys.readouterr().out
    if shutil.which("curl"):
        command = printed[printed.index("  curl") : printed.index("From Python")]
        said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
        assert "Tiny" in openai.types.chat.ChatCompletion.model_validate_json(said).choices[0].message.content
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), flags=re.S | re.M)
    for block in blocks:
        exec(block.replace("http://127.0.0.1:8000", address[0]))
    assert len(blocks) == 1 and "tiny\n" in capsys.readouterr().out
    assert [server.pid for server in servers(folder)] == [process.pid]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[-1], err) == (0, "Stopped.", "")
    assert servers(folder) == [] and not list(folder.root.glob(".serving*"))


def test_it_does_not_serve_the_network_without_a_key(installed: Path) -> None:
    with pytest.raises(UsageError, match="add --api-key KEY"):
        CliRunner().invoke(cli, ["serve", str(installed), "--host", "0.0.0.0"], catch_exceptions=False)


def test_a_chat_that_is_asked_to_serve_takes_no_options_of_a_chat(installed: Path) -> None:
    for given in (["--temperature", "1"], ["--run", "last"], ["--raw"], ["--chat"], ["--image", "a.png"]):
        named = given[0]
        with pytest.raises(UsageError, match=f"^--serve serves the base and all runs, and {named} is for a chat"):
            CliRunner().invoke(cli, ["start", str(installed), "--serve", *given], catch_exceptions=False)
