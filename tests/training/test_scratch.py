"""Scratch memory: one piece for each name, type and thread, used again; nothing large stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from llm_installer.training.fast.cpu.scratch import Scratch


def test_a_piece_is_used_again_and_grows() -> None:
    held = Scratch()
    first = held.take("a", torch.float32, 3, 5)
    assert first.shape == (3, 5) and first.dtype == torch.float32
    assert held.take("a", torch.float32, 2, 2).data_ptr() == first.data_ptr()
    assert held.take("b", torch.float32, 3, 5).data_ptr() != first.data_ptr()
    assert held.take("a", torch.bfloat16, 3, 5).data_ptr() != first.data_ptr()
    larger = held.take("a", torch.float32, 100)
    assert held.take("a", torch.float32, 3, 5).data_ptr() == larger.data_ptr()


def test_each_thread_has_its_own() -> None:
    held = Scratch()
    first = held.take("a", torch.float32, 4).fill_(1)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: held.take("a", torch.float32, 4).fill_(2)).result()
    assert first.eq(1).all()


def test_what_is_very_large_does_not_stay() -> None:
    held = Scratch()
    count = held.LARGEST // 4 + 1
    first = held.take("a", torch.float32, count)
    assert held.take("a", torch.float32, count).data_ptr() != first.data_ptr()


def test_a_copy_is_in_the_type_asked_for_and_whole_whatever_the_order_of_the_source() -> None:
    held = Scratch()
    source = torch.arange(6).view(2, 3).t()
    copied = held.copy("a", source, torch.float32)
    assert copied.is_contiguous() and torch.equal(copied, source.float())


def test_what_was_made_while_answering_can_be_used_in_training() -> None:
    held = Scratch()
    with torch.inference_mode():
        held.take("a", torch.float32, 4)
    held.take("a", torch.float32, 4).fill_(1)
