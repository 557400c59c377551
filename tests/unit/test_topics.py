"""Topic patterns: held to a plain recursive reading of the rule, and quick on any input."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from botswarm.broker.exchanges import topic_matches, topic_pattern

WORDS = st.lists(st.sampled_from(["a", "b", ""]), max_size=6)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#"]), max_size=6)


def by_the_book(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(by_the_book(pattern[1:], words[n:]) for n in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and by_the_book(pattern[1:], words[1:])


@given(PATTERNS, WORDS)
def test_patterns_match_what_the_rule_says(pattern: list[str], words: list[str]) -> None:
    prepared = topic_pattern(".".join(pattern))
    assert topic_matches(prepared, words) == by_the_book(pattern, words)


def test_a_hostile_pattern_takes_no_time() -> None:
    pattern = topic_pattern(".".join(["#", "a"] * 40 + ["b"]))
    assert not topic_matches(pattern, ["a"] * 80)
