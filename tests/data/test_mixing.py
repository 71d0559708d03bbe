"""Weights of files: the share of an epoch, every row before any comes again, and names as people type them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from llm_installer.core.errors import DataError, UsageError
from llm_installer.data.mixing import Mix, make_mix, named_files, parse_weights
from llm_installer.planning.pairs import parse_pairs


def mix_of(weights: dict[str, float], **sizes: int) -> tuple[Mix, np.ndarray]:
    files = np.array([name for name, size in sizes.items() for _ in range(size)])
    names, codes = np.unique(files, return_inverse=True)
    return make_mix(weights, names.tolist(), codes), files


@pytest.mark.parametrize("sizes", [{"a": 100, "b": 300}, {"a": 390, "b": 10}, {"a": 200, "b": 200}])
def test_the_share_of_an_epoch_follows_the_weights(sizes: dict[str, int]) -> None:
    mix, files = mix_of({"a": 3, "b": 1}, **sizes)
    for epoch in range(3):
        met = files[mix.epoch(1, epoch)]
        assert len(met) == mix.size == 400
        assert abs((met == "a").mean() - 0.75) < 0.05
    assert str(mix) == "a 75 %, b 25 %"


def test_no_row_comes_again_before_all_of_its_file_were_met() -> None:
    mix, files = mix_of({"a": 3, "b": 1}, a=70, b=330)
    met: Counter[int] = Counter()
    for epoch in range(9):
        met.update(mix.epoch(1, epoch).tolist())
        for name in "ab":
            often = [met[i] for i in np.flatnonzero(files == name).tolist()]
            assert max(often) - min(often) <= 1
    assert met.total() == 9 * 400


def test_rows_depend_on_seed_and_epoch_alone() -> None:
    mix, _ = mix_of({"a": 1, "b": 3}, a=300, b=100)
    assert mix.epoch(1, 2).tolist() == mix.epoch(1, 2).tolist()
    assert sorted(mix.epoch(1, 2)) != sorted(mix.epoch(2, 2)) and sorted(mix.epoch(1, 0)) != sorted(mix.epoch(1, 1))


def test_a_file_without_a_weight_weighs_1_and_a_tiny_share_is_not_nothing() -> None:
    assert mix_of({"a": 2}, a=50, b=50, c=50)[0].counts == (75, 38, 37)
    assert mix_of({"a": 1000}, a=50, b=50)[0].counts == (100, 1)


def test_a_file_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="b has no row to train on"):
        make_mix({"a": 1, "b": 1}, ["b", "a"], np.array([1, 1, 1]))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("x/a.json", "x/a.json"), ("./x/a.json", "x/a.json"), ("c.json", "x/c.json"), ("/base/b.json", "b.json")],
)
def test_names_are_understood_as_typed(typed: str, meant: str) -> None:
    known = ["x/a.json", "y/a.json", "x/c.json", "b.json"]
    assert named_files({typed: "1"}, known, Path("/base"), "--mix") == {meant: "1"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"z.json": "1"}, r"--mix: 'z.json' matches none of the files; name one of: x/a.json, y/a.json$"),
        ({"a.json": "1"}, r"'a.json' matches several files; name one of: x/a.json, y/a.json$"),
        ({"x/a.json": "1", "./x/a.json": "2"}, "names 'x/a.json' twice"),
    ],
)
def test_names_that_mean_no_file_or_several_are_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        named_files(given, ["x/a.json", "y/a.json"], Path("/base"), "--mix")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("a.json=3, b.json=1", {"a.json": "3", "b.json": "1"}),
        ("one, two.json=3,b=c.json=1", {"one, two.json": "3", "b=c.json": "1"}),
    ],
)
def test_pairs(text: str, pairs: dict[str, str]) -> None:
    assert parse_pairs(text, "--mix") == pairs


@pytest.mark.parametrize("text", ["a.json", "a.json=", "=3", "a=1,b", "a=1,a=2"])
def test_what_is_no_list_of_pairs_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--mix "):
        parse_pairs(text, "--mix")


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "much"])
def test_what_is_no_weight_is_refused(weight: str) -> None:
    with pytest.raises(UsageError, match=f"--mix a.json={weight}: a weight is a number above 0"):
        parse_weights({"a.json": weight})
