"""What is recorded and played back, by graphs that run on a CPU (traces.py); steps that are decided on the device."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llm_installer.data.batches import Batch, collate_packed
from llm_installer.data.buckets import Need, choose_buckets
from llm_installer.planning.method import PLAIN
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.cuda.graphs import WORTH, Graphs, refusal, worth_recording
from llm_installer.training.fast.device_step import DeviceStep, suits
from llm_installer.training.fast.interface import Told
from llm_installer.training.memory_probe import backing_off
from llm_installer.training.trainer import Trainer
from tests.training.test_static import LONGEST, rows, trainer_of
from tests.training.traces import PlayingBack


def adds(x: Tensor, weight: Tensor, total: Tensor) -> Callable[[], None]:
    """Work of a micro-batch: a gradient and a loss are added."""

    def work() -> None:
        loss = (x @ weight).square().sum()
        loss.backward()
        total.add_(loss.detach())

    return work


class Setting:
    """A weight with its gradient, a sum of losses, and an input in one place."""

    def __init__(self, **more: Any) -> None:
        torch.manual_seed(0)
        self.x, self.total = torch.randn(5, 4), torch.zeros(())
        self.weight = torch.randn(4, 3, requires_grad=True)
        self.weight.grad = torch.zeros(4, 3)
        self.said: list[str] = []
        self.capture = more.pop("capture", None) or PlayingBack()
        self.graphs = Graphs(
            self.capture, lambda: [self.weight.grad, self.total], {"a": 20.0, "b": 5.0}, self.said.append
        )
        self.work = more.pop("work", adds)(self.x, self.weight, self.total)

    def again(self, key: str = "a") -> tuple[Tensor, Tensor]:
        """(what was found, what is right) for new numbers in the same places; gradients and weights move on."""
        self.x.copy_(torch.randn(5, 4))
        before, other = self.weight.grad.clone(), self.weight.detach().clone().requires_grad_()
        loss = (self.x @ other).square().sum()
        loss.backward()
        self.graphs.run(key, self.work)
        with torch.no_grad():
            self.weight.sub_(other.grad, alpha=1e-3)
        return self.weight.grad.clone(), before + other.grad


def test_what_comes_again_is_recorded_and_played_back_right() -> None:
    setting = Setting()
    for _ in range(6):
        found, right = setting.again()
        assert torch.allclose(found, right, rtol=1e-6)
    assert setting.capture.recorded == setting.graphs.recorded == 1 and setting.said == []


@pytest.mark.parametrize(
    ("met", "meets", "records"),
    [
        (1, 99, False),
        (2, 99, True),
        (2, WORTH, True),
        (2, WORTH - 1, False),
        (7, WORTH - 1, False),
        (3, math.nan, False),
    ],
)
def test_only_what_is_met_often_is_worth_it(met: int, meets: float, records: bool) -> None:
    assert worth_recording(met, meets) is records


def test_what_is_met_seldom_is_computed_as_it_stands() -> None:
    setting = Setting()
    for _ in range(4):
        found, right = setting.again("b")
        assert torch.allclose(found, right, rtol=1e-6)
    assert setting.capture.recorded == 0


def stale(x: Tensor, weight: Tensor, total: Tensor) -> Callable[[], None]:
    """Multiplies by a copy that it makes again only when Python sees that the weight has changed."""
    held: dict[int, Tensor] = {}

    def work() -> None:
        if weight._version not in held:
            held[weight._version] = weight.detach() * 2
        (x @ weight + x @ held[weight._version]).square().sum().backward()
        total.add_(1)

    return work


def steals(x: Tensor, weight: Tensor, total: Tensor) -> Callable[[], None]:
    """Reads a number of the device."""

    def work() -> None:
        loss = (x @ weight).square().sum()
        (loss / float(loss.detach())).backward()
        total.add_(loss.detach())

    return work


class Short(PlayingBack):
    """There is no memory for a recording."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


class Refusing(PlayingBack):
    """A driver that cannot."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("CUDA error: operation not permitted\nat all")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"work": steals}, "recording failed (operation not permitted when stream is capturing)"),
        ({"work": stale}, "what is played back is off by"),
        ({"capture": PlayingBack(lambda graph: graph.done.pop(0))}, "what is played back is off by"),
        ({"capture": Short()}, "memory is short"),
        ({"capture": Refusing()}, "recording failed (CUDA error: operation not permitted)"),
    ],
    ids=["asks", "stale", "wrong", "memory", "driver"],
)
def test_what_cannot_be_recorded_is_said_once_and_nothing_is_lost(more: dict[str, Any], why: str) -> None:
    setting = Setting(**more)
    scale = more.get("work") is not None
    for _ in range(5):
        found, right = setting.again()
        assert scale or torch.allclose(found, right, rtol=1e-6), "gradients are as if nothing had been tried"
    (said,) = setting.said
    assert said.startswith("Without CUDA graphs: ") and why in said
    assert setting.graphs.recorded == 0


def test_tensors_that_others_have_taken_the_place_of_are_recorded_anew() -> None:
    setting = Setting()
    for i in range(6):
        if i == 4:
            setting.weight.grad = torch.zeros(4, 3)
        found, right = setting.again()
        assert torch.allclose(found, right, rtol=1e-6)
    assert setting.capture.recorded == 2


def test_random_numbers_are_drawn_as_if_nothing_had_been_tried() -> None:
    setting, states = Setting(), []
    for _ in range(3):
        setting.graphs.run("a", setting.work)
        states.append(torch.get_rng_state())
    assert all(torch.equal(state, states[0]) for state in states)


@pytest.mark.parametrize(
    ("changed", "rope", "why"),
    [
        ({}, "", ""),
        ({"precision": "float16"}, "", "float16"),
        ({"method": dataclasses.replace(PLAIN, neftune_noise_alpha=5.0)}, "", "NEFTune"),
        ({}, "dynamic", "longest row"),
        ({"checkpointed_layers": 2, "lora_dropout": 0.1}, "", "dropout"),
        ({"checkpointed_layers": 2}, "", ""),
        ({"lora_dropout": 0.1}, "", ""),
    ],
)
def test_what_is_never_recorded_has_a_sentence(
    changed: dict[str, Any], rope: str, why: str, plan_for: Callable[..., Plan]
) -> None:
    said = refusal(plan_for(5, **changed), rope, False, False)
    assert why in said and bool(said) == bool(why)


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(1)
    return [nn.Parameter(torch.randn(shape)) for shape in ((8, 6), (6,), (3, 4))]


def gradients_of(step: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(step)
    found = [torch.randn(p.shape, generator=random) * (0.1 if step % 3 else 3.0) for p in parameters()]
    if step in (7, 21):
        found[1][2] = math.nan if step == 7 else math.inf
    return found


@pytest.mark.parametrize("recorded", [False, True])
def test_a_step_that_is_decided_on_the_device_is_that_of_the_host(recorded: bool) -> None:
    """40 steps, clipped and not, with a falling rate; two are not taken."""
    mine, theirs = parameters(), parameters()
    optimizers = [torch.optim.AdamW(each, lr=1e-2, weight_decay=0.01, fused=True) for each in (mine, theirs)]
    assert suits(optimizers[0]) and not suits(torch.optim.SGD(mine, lr=0.1))
    for parameter in mine:
        parameter.grad = torch.zeros_like(parameter)
    total = torch.zeros(())
    step = DeviceStep(optimizers[0], lambda: [p.grad for p in mine], 1.0)
    graphs = Graphs(PlayingBack(), step.changed, {"step": math.inf}, lambda why: pytest.fail(why), whole=True)
    for i in range(40):
        rate, found = 1e-2 * (1 - i / 50), gradients_of(i)
        total.fill_(2.0 + i)
        optimizers[0].param_groups[0]["lr"].fill_(rate)
        for parameter, other, gradient in zip(mine, theirs, found, strict=True):
            parameter.grad.copy_(gradient)
            other.grad = gradient.clone()
        if recorded:
            graphs.run("step", step.work(total))
        else:
            step.work(total)()
        loss, norm, taken = step.read()
        expected = nn.utils.clip_grad_norm_(theirs, 1.0)
        optimizers[1].param_groups[0]["lr"] = rate
        if expected.isfinite():
            optimizers[1].step()
        assert loss == 2.0 + i and taken == bool(expected.isfinite())
        assert not taken or norm == pytest.approx(float(expected), rel=1e-6)
        assert all(not p.grad.any() for p in mine)
    assert all(
        (a - b).abs().max() <= 2e-7 * max(1, float(b.detach().abs().max())) for a, b in zip(mine, theirs, strict=True)
    )
    assert float(optimizers[0].state[mine[0]]["step"]) == 38
    assert graphs.recorded == recorded


@pytest.mark.parametrize("when", [1, 5])
def test_a_state_that_is_forgotten_is_begun_once(when: int) -> None:
    """Before the step has been recorded, and after: what is tried must not stay in the averages that it makes."""
    mine, theirs = parameters(), parameters()
    optimizers = [torch.optim.AdamW(each, lr=1e-2, fused=True) for each in (mine, theirs)]
    for parameter in mine:
        parameter.grad = torch.zeros_like(parameter)
    step = DeviceStep(optimizers[0], lambda: [p.grad for p in mine], 1e3)
    graphs = Graphs(PlayingBack(), step.changed, {"step": math.inf}, lambda why: pytest.fail(why), whole=True)
    for i in range(10):
        for optimizer in optimizers if i == when else ():
            optimizer.state.clear()
        for parameter, other, gradient in zip(mine, theirs, gradients_of(i + 8), strict=True):
            parameter.grad.copy_(gradient)
            other.grad = gradient
        graphs.run("step", step.work(torch.tensor(1.0)))
        optimizers[1].step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs, strict=True))
    assert float(optimizers[0].state[mine[0]]["step"]) == 10 - when
    assert graphs.recorded == 1


def test_a_loss_that_is_no_number_is_not_taken() -> None:
    (weight,) = (nn.Parameter(torch.ones(3)),)
    weight.grad = torch.ones(3)
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    step = DeviceStep(optimizer, lambda: [weight.grad], 1.0)
    step.work(torch.tensor(math.nan))()
    assert step.read()[2] is False and torch.equal(weight.detach(), torch.ones(3))
    step.work(torch.tensor(1.0))()
    assert step.read()[2] is True


def batches_of(step: int) -> list[Batch]:
    random = np.random.default_rng(step)
    return [collate_packed(rows(count, random)) for count in (3 + step % 4, 5)]


def given_fixed_shapes(trainer: Trainer, capture: PlayingBack | None, said: list[str]) -> Trainer:
    """As fixed_shapes.py gives them, with graphs that run on a CPU."""
    needs = [Need.of(batch) for step in range(12) for batch in batches_of(step)]
    buckets = choose_buckets(needs, LONGEST)
    told = Told(dict.fromkeys(buckets, 99.0), said.append, capture)
    norm = trainer.plan.max_grad_norm
    trainer.fixed = trainer.fast.fixed_steps(trainer.bare_optimizer, trainer.gradients, norm, buckets, told)
    return trainer


def taken(trainer: Trainer, steps: range) -> list[tuple[float, float, bool]]:
    return [trainer.step(batches_of(i), 2e-3 * (1 - i / 20)) for i in steps]


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.trained])


@pytest.mark.parametrize(
    "more",
    [
        {"checkpointed_layers": 1},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"loraplus": 4.0}, marks=pytest.mark.slow),
        pytest.param({"rank": 4}, marks=pytest.mark.slow),
    ],
    ids=["checkpointed", "plain", "lora+", "rank"],
)
def test_a_run_that_is_played_back_is_the_eager_one(more: dict[str, Any], plan_for: Callable[..., Plan]) -> None:
    method = dataclasses.replace(PLAIN, optimizer="adamw_torch_fused", loraplus_ratio=more.get("loraplus", 1.0))
    plan = plan_for(5, method=method, max_grad_norm=0.5, checkpointed_layers=more.get("checkpointed_layers", 0))
    eager, played = trainer_of("llama", plan), trainer_of("llama", plan)
    said: list[str] = []
    given_fixed_shapes(played, PlayingBack(), said)
    for trainer in (eager, played):
        trainer.rank = more.get("rank", trainer.rank)
    expected, found = taken(eager, range(7)), taken(played, range(7))
    assert said == [] and played.fixed and played.fixed.recorded >= 2, "a bucket at least, and the step"
    for (loss, norm, well), (own, size, good) in zip(expected, found, strict=True):
        assert own == pytest.approx(loss, rel=1e-6) and size == pytest.approx(norm, rel=2e-6) and well and good
    assert float((weights(played) - weights(eager)).norm() / weights(eager).norm()) < 1e-5


@pytest.mark.slow
def test_a_played_back_run_is_saved_and_resumed_as_an_eager_one(plan_for: Callable[..., Plan]) -> None:
    """The state that is loaded is in other tensors: they are recorded anew, and rates stay numbers in the file."""
    plan = plan_for(5, method=dataclasses.replace(PLAIN, optimizer="adamw_torch_fused"))
    first = given_fixed_shapes(trainer_of("llama", plan), PlayingBack(), [])
    taken(first, range(5))
    saved = first.optimizer_state()
    kept = {name: p.detach().clone() for name, p in first.model.named_parameters() if p.requires_grad}
    assert all(isinstance(group["lr"], float) for group in saved["optimizer"]["param_groups"])
    ends = []
    for fixed in (True, False):
        trainer = trainer_of("llama", plan)
        if fixed:
            given_fixed_shapes(trainer, PlayingBack(), [])
            taken(trainer, range(4))  # what was recorded before the state came
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                if name in kept:
                    parameter.copy_(kept[name])
        trainer.weights_changed()
        trainer.set_optimizer_state(copy.deepcopy(saved))
        taken(trainer, range(5, 10))
        ends.append(weights(trainer))
    assert float((ends[0] - ends[1]).norm() / ends[1].norm()) < 1e-5


def test_a_step_without_a_finite_loss_is_left_out_when_it_is_played_back(plan_for: Callable[..., Plan]) -> None:
    plan = plan_for(5, method=dataclasses.replace(PLAIN, optimizer="adamw_torch_fused"))
    trainer = given_fixed_shapes(trainer_of("llama", plan), PlayingBack(), [])
    assert all(good for _, _, good in taken(trainer, range(5)))
    before, state = weights(trainer).clone(), trainer.optimizer_state()
    trainer.fixed.begin()
    trainer.gradients()[0].fill_(math.nan)
    _, size, good = trainer.step(batches_of(1), 1e-3)
    assert not good and math.isnan(size) and torch.equal(weights(trainer), before)
    assert torch.equal(
        trainer.optimizer_state()["optimizer"]["state"][0]["step"], state["optimizer"]["state"][0]["step"]
    )
    assert taken(trainer, range(6, 7))[0][2] and not torch.equal(weights(trainer), before)


def test_where_memory_runs_out_nothing_is_played_back_any_longer(plan_for: Callable[..., Plan]) -> None:
    said: list[str] = []
    trainer = given_fixed_shapes(trainer_of("llama", plan_for(5)), PlayingBack(), said)
    failing = iter([True])

    def once() -> int:
        if next(failing, False):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return len(taken(trainer, range(2)))

    assert backing_off(trainer, once, size=2048, longest=32, say=said.append) == 2
    assert said[0] == "Without CUDA graphs: memory is short." and said[1].startswith("Out of memory with")
    assert trainer.fixed.recorded == 0
