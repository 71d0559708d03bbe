"""What the first ten minutes on an NVIDIA GPU should answer, a line for each: attention by documents, float8 products,
sums into a view, the cost of a captured graph, and the transpose of a float8 weight.

    python benchmarks/gpu_questions.py            (--device cpu tries out what a CPU can)

What cannot be done on a machine is said with its reason; the rest goes on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

SHAPES = ((4096, 4096), (6144, 4096), (14336, 4096), (28672, 4096), (4096, 14336))
"""Outputs and inputs of the products of an 8B model; the second and the fourth are stacked ones."""


class Asked:
    """The device, and how large a question may be there."""

    def __init__(self, device: str) -> None:
        self.device, self.gpu = device, device == "cuda"
        self.tokens = 16384 if self.gpu else 64

    def side(self, number: int) -> int:
        return number if self.gpu else number // 64 // 16 * 16 or 16

    def seconds(self, work: Callable[[], object], rounds: int = 10) -> float:
        """The median of some runs, after two that are not counted."""
        took = []
        for number in range(rounds + 2):
            began = self.now()
            work()
            ended = self.now()
            took.append(ended - began)
            if number < 2:
                took.clear()
        return statistics.median(took)

    def now(self) -> float:
        if self.gpu:
            torch.cuda.synchronize()
        return time.perf_counter()


def attention(ask: Asked) -> None:
    """FlashAttention-2 over documents: slots that are empty, and a longest document that is padded."""
    heads, size, documents = 32, 128, 8
    tokens = 8 * 512
    q, k, v = (torch.randn(tokens, heads, size, device=ask.device, dtype=torch.bfloat16) for _ in range(3))
    for slots in (documents, 64):
        ends = [512 * min(i, documents) for i in range(slots + 1)]
        bounds = torch.tensor(ends, device=ask.device, dtype=torch.int32)
        for longest in (512, 768, 4096):

            def work(bounds: torch.Tensor = bounds, longest: int = longest) -> object:
                return torch.ops.aten._flash_attention_forward(
                    q, k, v, bounds, bounds, longest, longest, 0.0, True, False
                )  # fmt: skip

            print(f"  {slots} slots, longest {longest}: {1e6 * ask.seconds(work):.0f} us")


def float8(ask: Asked) -> None:
    """torch's scaled product against bfloat16's, with and without fast accumulation."""
    from llm_installer.models.float8 import cast_rows

    for outputs, inputs in SHAPES:
        n, k = ask.side(outputs), ask.side(inputs)
        x = torch.randn(ask.tokens, k, device=ask.device, dtype=torch.bfloat16)
        weight = torch.randn(n, k, device=ask.device, dtype=torch.bfloat16)
        (a, s), (b, t) = cast_rows(x), cast_rows(weight)
        work, turned = 2 * ask.tokens * n * k, t.t().contiguous()
        plain = ask.seconds(lambda x=x, weight=weight: x @ weight.t())
        said = [f"bfloat16 {work / plain / 1e12:.0f} TFLOP/s"]
        for fast in (True, False):
            took = ask.seconds(
                lambda a=a, b=b, s=s, turned=turned, fast=fast: torch._scaled_mm(
                    a, b.t(), scale_a=s, scale_b=turned, out_dtype=torch.bfloat16, use_fast_accum=fast
                )
            )
            said.append(f"float8 {'fast' if fast else 'exact'} {work / took / 1e12:.0f} ({plain / took:.2f}x)")
        said.append(f"cast of the input {1e6 * ask.seconds(lambda x=x: cast_rows(x)):.0f} us")
        print(f"  {ask.tokens} x {k} -> {n}: {', '.join(said)}")


def sums(ask: Asked) -> None:
    """A narrow product added in float32 to a view of one large buffer, as the gradients of adapters are."""
    flat = torch.zeros(64 + 16 * 4096, device=ask.device)
    view = flat[64:].view(16, 4096)
    low, x = (torch.randn(ask.tokens, n, device=ask.device, dtype=torch.bfloat16) for n in (16, 4096))
    took = ask.seconds(lambda: torch.addmm(view, low.t(), x, out_dtype=torch.float32, out=view))
    apart = ask.seconds(lambda: view.add_((low.t() @ x).float()))
    print(f"  addmm into a view {1e6 * took:.0f} us, product, cast and sum {1e6 * apart:.0f} us")


def graphs(ask: Asked) -> None:
    """Capturing seven sizes of one stack of layers in a shared pool: seconds, and what the pool holds."""
    width = ask.side(2048)
    layers = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(64))).to(ask.device, torch.bfloat16)
    layers.requires_grad_(False)
    stream, pool, before = torch.cuda.Stream(), torch.cuda.graph_pool_handle(), torch.cuda.memory_reserved()
    kept = []
    for tokens in sorted((1024, 2048, 2560, 3072, 3584, 4096, 4736), reverse=True):
        x = torch.randn(tokens, width, device=ask.device, dtype=torch.bfloat16, requires_grad=True)
        with torch.cuda.stream(stream):
            for _ in range(2):
                torch.autograd.grad(layers(x).sum(), x)
        began, graph = ask.now(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            torch.autograd.grad(layers(x).sum(), x)
        took = ask.now() - began
        kept.append(graph)
        eager = ask.seconds(lambda x=x: torch.autograd.grad(layers(x).sum(), x))
        replay = ask.seconds(graph.replay)
        pool_size = (torch.cuda.memory_reserved() - before) / 2**20
        print(f"  {tokens} tokens: captured in {1e3 * took:.0f} ms, pool {pool_size:.0f} MiB, "
              f"eager {1e3 * eager:.2f} ms, replay {1e3 * replay:.2f} ms")  # fmt: skip


def transpose(ask: Asked) -> None:
    """A float8 weight turned around by the product's kernel, and by PyTorch's copy."""
    from llm_installer.models.float8_kernels import E4M3, _kernels, turn_quickly

    for outputs, inputs in SHAPES:
        n, k = ask.side(outputs), ask.side(inputs)
        weight = torch.randint(0, 100, (n, k), device=ask.device, dtype=torch.uint8)
        copied = torch.empty(k, n, device=ask.device, dtype=torch.uint8)
        own = ask.seconds(lambda weight=weight: turn_quickly(weight.view(E4M3)))
        plain = ask.seconds(lambda weight=weight, copied=copied: copied.copy_(weight.t()))
        rate = 2 * n * k / own / 1e12
        with_kernel = "with" if ask.gpu and _kernels() else "WITHOUT"
        print(
            f"  {n} x {k}: {1e6 * own:.0f} us ({rate:.2f} TB/s, {with_kernel} the kernel), copy_ {1e6 * plain:.0f} us"
        )


QUESTIONS = {
    "attention over documents": attention,
    "float8 products": float8,
    "sums into a view": sums,
    "graphs of seven sizes": graphs,
    "transpose of a float8 weight": transpose,
}


def main() -> None:
    """Ask all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    ask = Asked(parser.parse_args().device)
    name = torch.cuda.get_device_name() if ask.gpu else "CPU"
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    for title, question in QUESTIONS.items():
        print(f"{title}:", flush=True)
        try:
            question(ask)
        except Exception as error:  # the other questions are worth their answers
            print(f"  not here: {(str(error).splitlines() or [type(error).__name__])[0][:200]}")


if __name__ == "__main__":
    main()
