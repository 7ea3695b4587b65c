"""Where the program is: by the rule, in one pass, for any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.reward.code_extract import RULES, Code, defines, extract_code, function_body, last_answer, last_block

PLAIN = "def f(x):\n    return x\n"


def test_the_last_block_counts() -> None:
    text = f"First:\n```python\nold()\n```\nNo:\n```python\n{PLAIN}```\nDone."
    assert extract_code(text) == Code(text=PLAIN, place="fence")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"```\n{PLAIN}```", PLAIN),
        (f"```py\n{PLAIN}```", PLAIN),
        (f"```Python3 title='a'\n{PLAIN}```", PLAIN),
        (f"````python\n{PLAIN}````", PLAIN),
        # a block of python before one of something else, an example of its output
        (f"```python\n{PLAIN}```\nIt prints:\n```text\n3\n```", PLAIN),
        (f"```python\n{PLAIN}```\nIt prints:\n```\n3\n```", PLAIN),
        # four backticks hold three
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        # the fence's indentation, in a list
        ("1. Do:\n   ```python\n   def f(x):\n       return x\n   ```\n", PLAIN),
        # the text ends in the middle of its only block
        (f"Sure!\n```python\n{PLAIN}", PLAIN + "\n"),
        # a closed block counts before one that is not
        (f"```python\n{PLAIN}```\n```python\nhalf(", PLAIN),
        ("```python def f(x): return x```", "def f(x): return x\n"),
        ("```f = 3```", "f = 3\n"),
        # the prompt had opened the block
        (f"{PLAIN}```", PLAIN),
        (f"{PLAIN}```\n\nThis returns x.", PLAIN),
    ],
)
def test_blocks(text: str, code: str) -> None:
    assert last_block(text) == code


@pytest.mark.parametrize("text", ["", "no code", "`x` and ``y``", "``\nx\n``", "```", "```python", "some words\n```\n"])
def test_no_block(text: str) -> None:
    assert not last_block(text) or last_block(text) == "some words\n"


def test_a_lone_fence_after_words_is_no_program() -> None:
    assert extract_code("Here it is:\n```\n") == Code(text="Here it is:\n```\n", place="text")


def test_the_answer_tag_and_the_whole_text() -> None:
    assert extract_code("<think>hm</think><answer>x = 1</answer>") == Code(text="x = 1", place="answer")
    assert extract_code("<answer>a</answer> no, <answer>b</answer>") == Code(text="b", place="answer")
    assert extract_code("x = 1") == Code(text="x = 1", place="text")
    assert last_answer("</answer><answer>x") is None
    assert last_answer("<answer>x") is None


def test_a_fixed_rule_looks_nowhere_else() -> None:
    text = f"<answer>\n```\n{PLAIN}```\n</answer>\n```\nother\n```"
    assert extract_code(text, "fence") == Code(text="other\n", place="fence")
    assert extract_code(text, "answer") == Code(text=PLAIN, place="answer")
    assert extract_code(text, "text") == Code(text=text, place="text")
    assert extract_code("x = 1", "fence") is None
    assert extract_code("x = 1", "answer") is None
    assert set(RULES) == {"auto", "fence", "answer", "text"}


@pytest.mark.parametrize(
    ("code", "name", "found"),
    [
        ("def f(x):", "f", True),
        ("async def f(x):", "f", True),
        ("import math\ndef f (x):", "f", True),
        ("f = lambda x: x", "f", True),
        ("f: int = 3", "f", True),
        ("class f:", "f", True),
        ("def f[T](x: T):", "f", True),
        ("    def f(x):", "f", False),
        ("def ff(x):", "f", False),
        ("f == 3", "f", False),
        ("f(3)", "f", False),
        ("return f", "f", False),
        ("# def f(x):", "f", False),
        ("def g(x):\n    return f(x)", "f", False),
    ],
)
def test_defines(code: str, name: str, found: bool) -> None:
    assert defines(code, name) is found


def test_a_body_ends_where_the_margin_begins() -> None:
    text = "    if x:\n        return 1\n\n    return (\n2\n)\n# note\n\nprint(f(1))\ndef g():"
    # `2` stands at the margin inside a bracket: the cut is a rule on lines, not a parser
    assert function_body(text) == "    if x:\n        return 1\n\n    return (\n"
    assert function_body("    return x\n# so\n)\n\ndef g():\n    pass") == "    return x\n# so\n)\n\n"
    assert function_body(" x + 1") == " x + 1\n"
    assert function_body("x + 1\n    return y") == "x + 1\n    return y\n"


PIECES = st.lists(
    st.sampled_from(
        ["```", "````", "```python", "\n", " ", "x = 1", "<answer>", "</answer>", "`", "\r\n", "\x00", "\ud800"]
    ),
    max_size=30,
).map("".join)


@given(text=PIECES | st.text(max_size=200), rule=st.sampled_from(list(RULES)))
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_program_made_of_its_own_characters(text: str, rule: str) -> None:
    code = extract_code(text, rule)
    if rule in ("auto", "text"):
        assert code is not None
    if code is not None:
        assert set(code.text) <= set(text) | {"\n"}
        assert len(code.text) <= len(text) + 1
        function_body(code.text)
        defines(code.text, "x")


@given(code=st.text(alphabet="ab=\n \t`", max_size=80), words=st.text(alphabet="abc. \n", max_size=40))
@settings(max_examples=150, deadline=None)
def test_what_is_fenced_wide_enough_comes_back(code: str, words: str) -> None:
    """A fence longer than any run of backticks inside, as CommonMark has it."""
    fence = "`" * 90
    assert last_block(f"{words}\n{fence}python\n{code}\n{fence}\n{words}") == code + "\n"


@pytest.mark.parametrize(
    "piece", ["```\n", "<answer>", "</answer>", "`", "```python ", " ", "\n", "``` `", "```x```\n"]
)
def test_time_grows_with_the_length_alone(piece: str) -> None:
    """400,000 characters of anything in a second or two; a quadratic rule would take hours."""
    text = piece * (400_000 // len(piece))
    began = time.monotonic()
    extract_code(text)
    function_body(text)
    defines(text, "f")
    assert time.monotonic() - began < 5.0
