"""How many tokens the engine of `serve` makes of a second of a processor: one answer, sixteen, and mixed adapters.

Run it by hand where nothing else runs: `python benchmarks/serving.py --shape 135m`, or `--model DIR` for a folder of
weights. Random weights and adapters are made from seeds, so nothing is downloaded; rounds alternate, medians count.
With `--against` the server is compared with `transformers serve`: both answer the same clients over HTTP.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch
from compare import SHAPES
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from llm_installer.core.paths import ModelDir
from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import BASE, Done, Event, Limits, Request
from llm_installer.install.installer import install
from llm_installer.tiny import MODEL_DIR

RANKS = (4, 8, 16)
PROMPT = "Once upon a time, there was a little girl who lived in a house at the edge of a big forest."


def main() -> None:
    """Make the model, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--model", type=Path, help="a folder of weights instead of a shape")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", action="store_true", help="compare with transformers serve, with 8 clients")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch, home(Path(scratch)):
        folder = ModelDir(install(str(given.model or made(given.shape, Path(scratch))), say=lambda text: None).root)
        if given.against:
            against(folder, given.tokens, given.rounds)
        else:
            streams(folder, Path(scratch), given.tokens, given.rounds)


@contextmanager
def home(folder: Path) -> Iterator[None]:
    """A place of its own for installed models."""
    import os

    os.environ["LLM_HOME"] = str(folder / "home")
    yield


def made(shape: str, scratch: Path) -> Path:
    """A random model of this shape, with the built-in tokenizer."""
    folder = scratch / shape
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=2048, eos_token_id=None, bos_token_id=None)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    return folder


def adapter(folder: ModelDir, target: Path, rank: int) -> Path:
    """A random adapter on all linear layers."""
    torch.manual_seed(rank)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder.weights),
        LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False),
    )
    model.save_pretrained(target)
    return target


def streams(folder: ModelDir, scratch: Path, tokens: int, rounds: int) -> None:
    """Tokens a CPU second: one answer at a time, and sixteen of the base, of one adapter, and of all of them mixed."""
    engine = Engine(folder, Limits(rows=16))
    names = [BASE]
    for rank in RANKS:
        names.append(f"r{rank}")
        engine.add(names[-1], adapter(folder, scratch / names[-1], rank))
    cases = {
        "1 of the base": [BASE],
        "1 adapter": ["r16"],
        "16 of the base": [BASE] * 16,
        "16 of 1 adapter": ["r16"] * 16,
    }
    cases["16, base and 3 adapters"] = names * 4
    found: dict[str, list[float]] = {name: [] for name in cases}
    answered(engine, [BASE], tokens)
    for _ in range(rounds):
        for name, models in cases.items():
            found[name].append(answered(engine, models, tokens))
    first = statistics.median(found["1 of the base"])
    for name, rates in found.items():
        rate = statistics.median(rates)
        print(f"{name:26} {rate:10,.0f} tokens a CPU second  {rate / first:6.1f}x")
    turns(engine, tokens)
    engine.close()


def answered(engine: Engine, models: list[str], tokens: int) -> float:
    """Tokens a CPU second for these answers, all asked at once."""
    ids = tuple(engine.served[BASE].encoder.text_ids(PROMPT))
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    begin = cpu()
    for model in models:
        engine.submit(Request(model, ids, tokens), heard.put)
    made = sum(event.tokens for event in until_done(heard, len(models)))
    return made / (cpu() - begin)


def until_done(heard: queue.SimpleQueue[Event], count: int) -> Iterator[Done]:
    """The ends of `count` answers."""
    while count:
        event = heard.get()
        if isinstance(event, Done):
            count -= 1
            yield event


def turns(engine: Engine, tokens: int, count: int = 10) -> None:
    """What each turn of a chat costs per new token, and how much of it was read again."""
    encoder = engine.served[BASE].encoder
    ids, costs = encoder.text_ids(PROMPT), []
    for _ in range(count):
        heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
        begin = cpu()
        engine.submit(Request(BASE, tuple(ids), tokens // 2), heard.put)
        made: list[int] = []
        while not isinstance(event := heard.get(), Done):
            made += [token.id for token in event.tokens]
        costs.append((cpu() - begin) / len(made))
        ids = [*ids, *made, *encoder.text_ids(" And then what?")]
    print(f"the tenth turn of a chat costs {costs[9] / costs[1]:.2f}x the second for each new token")


def cpu() -> float:
    """Seconds of processors that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def against(folder: ModelDir, tokens: int, rounds: int, clients: int = 8) -> None:
    """Tokens a second for eight clients at once, ours and those of `transformers serve`, in turns."""
    ours = [sys.executable, "-m", "llm_installer", "serve", str(folder.root), "--port", "8811"]
    theirs = [str(Path(sys.executable).parent / "transformers"), "serve", str(folder.weights), "--port", "8812"]
    servers = {8811: (folder.root.name, ours), 8812: (str(folder.weights), theirs)}
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _, command in servers.values()
    ]
    try:
        found: dict[int, list[float]] = {port: [] for port in servers}
        for port, (model, _) in servers.items():
            wait_for(lambda port=port, model=model: asked(port, model, 2) > 0)  # type: ignore[misc]
        for _ in range(rounds):
            for port, (model, _) in servers.items():
                found[port].append(rate(port, model, tokens, clients))
        ours_rate, theirs_rate = (statistics.median(rates) for rates in found.values())
        print(f"{clients} clients: {ours_rate:,.1f} tokens a second, {ours_rate / theirs_rate:.1f}x transformers serve")
    finally:
        for each in running:
            each.terminate()
            each.wait()


def rate(port: int, model: str, tokens: int, clients: int) -> float:
    """Tokens a second that all clients get together."""
    made: list[int] = []
    threads = [threading.Thread(target=lambda: made.append(asked(port, model, tokens))) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made) / (time.perf_counter() - begin)


def asked(port: int, model: str, tokens: int) -> int:
    """How many tokens an answer of at most `tokens` had; 0 where nobody listens yet."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": tokens, "temperature": 0}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    except OSError:
        return 0
    return int(answer["usage"]["completion_tokens"])


def wait_for(ready: Callable[[], bool]) -> None:
    """Until a server answers, two minutes at most."""
    end = time.monotonic() + 120
    while not ready():
        if time.monotonic() > end:
            raise SystemExit("a server did not answer")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
