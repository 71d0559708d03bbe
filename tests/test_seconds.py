"""The list of tests that take long: what it says is there, and how it is chosen."""

from __future__ import annotations

from tests.conftest import ROOT
from tests.seconds import chosen
from tests.tiers import LONG, RARE, names_in


def test_every_name_in_the_list_is_a_test() -> None:
    gone = []
    for name in names_in(LONG) | names_in(RARE):
        file, _, test = name.partition("[")[0].partition("::")
        if f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8"):
            gone.append(name)
    assert gone == [], "tests/seconds.py writes the list again"


def test_the_longest_go_first_and_no_more_than_must() -> None:
    lines = [("a::one", 5.0, [], {}), ("a::two", 1.0, [], {}), ("a::three", 3.0, [], {})]
    assert list(chosen(lines, 9.0)) == []
    assert list(chosen(lines, 4.0)) == ["a::one"]
    assert list(chosen(lines, 0.5)) == ["a::one", "a::three", "a::two"]


def test_what_shares_a_long_fixture_goes_together() -> None:
    """The first test pays for what the others use; left alone, the next one would pay."""
    run = {"a:run": 10.0}
    lines = [("a::one", 0.1, ["a:run"], run), ("a::two", 0.1, ["a:run"], {}), ("a::alone", 4.0, [], {})]
    assert list(chosen(lines, 5.0)) == ["a::one", "a::two"]
