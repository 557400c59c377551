"""The `.env` reader understands a line or reports it; it never guesses."""

from __future__ import annotations

import pytest

from botswarm.config.dotenv import parse


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("  export A = 1  ", "1"),
        ("A=", ""),
        ("A=   # only a comment", ""),
        ("A=one two", "one two"),
        ("A=one # comment", "one"),
        ("A=pass#word", "pass#word"),
        ("A='one # two'  # three", "one # two"),
        ("A='${HOME}'", "${HOME}"),
        ('A="a\\nb \\" \\\\ \\$"', 'a\nb " \\ $'),
        ("A=amqp://u:p@h/v?x=1&y=2", "amqp://u:p@h/v?x=1&y=2"),
        ("A=x=y", "x=y"),
        ("A=cash$", "cash$"),
        ("A=1\r", "1"),
        ("\ufeffA=1", "1"),
    ],
)
def test_a_line_has_one_meaning(line: str, value: str) -> None:
    parsed = parse(line, ".env")
    assert parsed.problems == ()
    assert parsed.values["A"].value == value


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("A", "is not NAME=value"),
        ("=1", "is not NAME=value"),
        ("two words=1", "is not NAME=value"),
        ("A-B=1", "a name that is not made of"),
        ("1A=1", "a name that is not made of"),
        ("A='x", "opens a ' that is never closed"),
        ('A="x', 'opens a " that is never closed'),
        ('A="x\\"', 'opens a " that is never closed'),
        ("A='x' y", "goes on after the closing quote"),
        ('A="\\q"', "a backslash that escapes nothing"),
        ('A="\\', "a backslash that escapes nothing"),
        ("A=${HOME}/x", "variables are not expanded"),
        ('A="${HOME}"', "variables are not expanded"),
    ],
)
def test_a_bad_line_is_a_problem_with_its_number_and_a_cure(line: str, part: str) -> None:
    (problem,) = parse(f"# first\n{line}\n", "x/.env").problems
    assert problem.cause.startswith("x/.env:2 ")
    assert part in problem.cause
    assert problem.cure


def test_a_name_set_twice_is_a_problem_with_both_lines() -> None:
    (problem,) = parse("A=1\n\nA=2", ".env").problems
    assert problem.cause == ".env:3 sets A again, it is already set in line 1"


def test_blank_lines_and_comments_mean_nothing() -> None:
    assert parse("\n  \n# A=1\n\t# B\n", ".env") == parse("", ".env")
