"""How many tokens the engine of `serve` makes of a second of a processor: one answer, sixteen, and mixed adapters.

Run it by hand where nothing else runs. `python benchmarks/serving.py --all STORIES` says all that is promised, each
ratio beside the least it must be: STORIES is a folder with the weights of stories260K. `--shape 135m`, or `--model DIR`
for a folder of weights, says it of one model, and `--against` compares the server with `transformers serve`: both
answer the same clients over HTTP. Weights and adapters are made from seeds, so nothing is downloaded; what is compared
is measured in turns, by the seconds of processors where one process does it; the median of the ratios counts.
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
from llm_installer.install.tiny import MODEL_DIR

RANKS = (4, 8, 16)
SIXTEEN, MIXED, TURNS = "16 of the base", "16, base and 3 adapters", "turns"
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
    parser.add_argument("--all", type=Path, metavar="STORIES", help="every ratio that is promised")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch, home(Path(scratch)):
        work = Path(scratch)
        shape = given.model or made(given.shape, work)
        folder = ModelDir(install(str(shape), say=lambda text: None).root)
        if given.all:
            stories = ModelDir(install(str(given.all), say=lambda text: None).root)
            small = streams(stories, work / "stories", 2 * given.tokens, 3 * given.rounds)
            large = streams(folder, work / "shape", given.tokens, given.rounds)
            side = against(folder, given.tokens, given.rounds)
            promised(small, large, side)
        elif given.against:
            against(folder, given.tokens, given.rounds)
        else:
            streams(folder, work, given.tokens, given.rounds)


def promised(small: dict[str, float], large: dict[str, float], side: float) -> None:
    """What is promised of serving beside what was measured."""
    rows = (
        ("stories260K, 16 streams against 1", small[SIXTEEN], ">=", 7.0),
        ("135M shape, 16 streams against 1", large[SIXTEEN], ">=", 4.0),
        ("135M shape, base and 3 adapters mixed against 1", large[MIXED], ">=", 3.0),
        ("8 clients against transformers serve", side, ">=", 3.0),
        ("stories260K, a chat's tenth turn against its second", small[TURNS], "<=", 1.0),
        ("135M shape, a chat's tenth turn against its second", large[TURNS], "<=", 1.0),
    )
    print()
    for words, found, way, wanted in rows:
        kept = found >= wanted if way == ">=" else found <= wanted
        print(f"{words:52} {found:6.2f}x  {way} {wanted:.0f}  {'yes' if kept else 'no'}")


@contextmanager
def home(folder: Path) -> Iterator[None]:
    """A place of its own for installed models."""
    import os

    os.environ["LLM_HOME"] = str(folder / "home")
    yield


def made(shape: str, scratch: Path) -> Path:
    """A random model of this shape, with the built-in tokenizer and as many more words as the shape has rows."""
    folder = scratch / shape
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=2048, eos_token_id=None, bos_token_id=None)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    words = content["model"]["vocab"]
    words |= {f"word {number}": number for number in range(len(words), config.vocab_size)}
    file.write_text(json.dumps(content), encoding="utf-8")
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


def streams(folder: ModelDir, scratch: Path, tokens: int, rounds: int) -> dict[str, float]:
    """Tokens a CPU second: one answer at a time, and sixteen of the base, of one adapter, and of all of them mixed.
    Returns each as a multiple of one answer of the base in the same round, and what turns() does."""
    engine = Engine(folder, Limits(rows=16))
    names = [BASE]
    for rank in RANKS:
        names.append(f"r{rank}")
        engine.add(names[-1], adapter(folder, scratch / names[-1], rank))
    cases = {
        "1 of the base": [BASE],
        "1 adapter": ["r16"],
        SIXTEEN: [BASE] * 16,
        "16 of 1 adapter": ["r16"] * 16,
    }
    cases[MIXED] = names * 4
    found: dict[str, list[float]] = {name: [] for name in cases}
    answered(engine, [BASE], tokens)
    for _ in range(rounds):
        for name, models in cases.items():
            found[name].append(answered(engine, models, tokens))
    ratios: dict[str, float] = {}
    for name, rates in found.items():
        ratios[name] = statistics.median(a / b for a, b in zip(rates, found["1 of the base"], strict=True))
        print(f"{name:26} {statistics.median(rates):10,.0f} tokens a CPU second  {ratios[name]:6.1f}x", flush=True)
    ratios[TURNS] = turns(engine, tokens, rounds)
    engine.close()
    return ratios


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


def turns(engine: Engine, tokens: int, rounds: int, count: int = 10) -> float:
    """What the tenth turn of a chat costs for each new token, as a multiple of the second. Returns the median over
    several chats that go on side by side, a turn of each after the other, so that other work meets all turns alike."""
    encoder = engine.served[BASE].encoder
    chats = [[*encoder.text_ids(f"{PROMPT} {number}")] for number in range(rounds)]
    costs: list[list[float]] = [[] for _ in chats]
    tokens = min(tokens, (engine.positions - len(chats[0])) // (2 * count))
    for _ in range(count):
        for number, ids in enumerate(chats):
            heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
            begin = cpu()
            engine.submit(Request(BASE, tuple(ids), tokens), heard.put)
            made: list[int] = []
            while not isinstance(event := heard.get(), Done):
                made += [token.id for token in event.tokens]
            costs[number].append((cpu() - begin) / len(made))
            chats[number] = [*ids, *made, *encoder.text_ids(" And then what?")]
    middle = [statistics.median(each[turn] for each in costs) for turn in range(count)]
    print("turns of a chat, milliseconds a new token:", *(f"{1000 * one:.1f}" for one in middle), flush=True)
    ratio = statistics.median(each[9] / each[1] for each in costs)
    print(f"the tenth turn of a chat costs {ratio:.2f}x the second for each new token", flush=True)
    return ratio


def cpu() -> float:
    """Seconds of processors that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def against(folder: ModelDir, tokens: int, rounds: int, clients: int = 8) -> float:
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
        ratio = statistics.median(a / b for a, b in zip(found[8811], found[8812], strict=True))
        ours_rate = statistics.median(found[8811])
        print(f"{clients} clients: {ours_rate:,.1f} tokens a second, {ratio:.1f}x transformers serve", flush=True)
        return ratio
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
