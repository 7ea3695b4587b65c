"""The parts of `math`: bounds, numbers, units, spans, statements; and what must hold for any answer."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.reward.math_answer import judge_one, verdict
from charter.reward.math_bounds import beyond, nesting, too_large, unreadable
from charter.reward.math_engine import same_formula, same_relation
from charter.reward.math_number import Number, read_number
from charter.reward.math_reading import Claim, Formula, Matrix, Named, Series, Union, Words, read
from charter.reward.math_spans import merged
from charter.reward.math_statement import statement, tags
from charter.reward.math_tidy import matching, split_top, tidy
from charter.reward.math_units import Unit, read_unit

VALUES = {
    # by hand: what each text is worth
    "122": Fraction(122), "-5": Fraction(-5), "+7": Fraction(7), "1,234": Fraction(1234), "1,234.50": Fraction(2469, 2),
    r"\frac{3}{4}": Fraction(3, 4), r"\frac34": Fraction(3, 4), r"-\frac{1}{2}": Fraction(-1, 2), "3/4": Fraction(3, 4),
    r"1\frac{1}{2}": Fraction(3, 2), "2 1/3": Fraction(7, 3), r"-2\frac{1}{3}": Fraction(-7, 3), ".5": Fraction(1, 2),
    "1.5e-3": Fraction(3, 2000), r"1.5\times10^{3}": Fraction(1500), "10^{-2}": Fraction(1, 100),
    r"0.\overline{3}": Fraction(1, 3), r"0.1\overline{6}": Fraction(1, 6),
    r"2.\overline{142857}": Fraction(15, 7),
    r"1\,234": Fraction(1234), "1 234 567": Fraction(1234567), "3{,}5": Fraction(7, 2),
    "3 million": Fraction(3_000_000),
    "½": Fraction(1, 2), "(5)": Fraction(5), "-(5)": Fraction(-5), "5 cm": Fraction(5), "$5": Fraction(5),
}  # fmt: skip
NO_NUMBERS = [
    "",
    "x",
    "5x",
    "2\\pi",
    "1/0",
    "12 3",
    "1-1/2",
    "1.2.3",
    "--5",
    "5 sin x",
    "9" * 1500,
    "٤٢",
    "5 or 6",
    "1,23",
]


@pytest.mark.parametrize("text", VALUES)
def test_numbers_are_read_exactly(text: str) -> None:
    found = read_number(tidy(text))
    assert found is not None
    assert found.value == VALUES[text]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_plain_number_is_none(text: str) -> None:
    assert read_number(tidy(text)) is None


def test_a_rounding_has_six_places_and_six_digits() -> None:
    # one unit of the last place; none for short decimals; the 15th significant digit at the finest
    tolerances = {"0.333333": 6, "0.33333": 0, "1234.56": 0, "5": 0, "0.0000012": 0, "1.23457e-5": 10}
    for text, expected in tolerances.items():
        found = read_number(text)
        assert found is not None
        assert found.tolerance == (Fraction(1, 10**expected) if expected else 0), text
    noise = read_number("0." + "3" * 20)
    assert noise is not None
    assert noise.tolerance == Fraction(1, 10**15)


def test_units_convert() -> None:
    speed, other = read_unit("km/h", spaced=True), read_unit("meters per second", spaced=True)
    assert isinstance(speed, Unit)
    assert isinstance(other, Unit)
    assert speed.dimension == other.dimension == (("length", 1), ("time", -1))
    assert speed.factor == Fraction(1000, 3600)
    assert read_unit("m", spaced=False) is None  # 5m may be five times m
    assert read_unit("sin x", spaced=True) is None
    assert read_unit("apples", spaced=True) == "apples"
    area = read_unit("square feet", spaced=True)
    assert isinstance(area, Unit)
    assert area.factor == Fraction(3048, 10000) ** 2


BEYOND = {
    "9" * 1001: "more than 1000 digits in a row",
    "x" * 2001: "it has 2001 characters (at most 2000)",
    "(" * 41: "it is nested 41 deep (at most 40)",
    "+1" * 401: "more than 400 commands and operators",
    "9^{9^{9^{9^{9}}}}": "a tower of 4 powers (at most 3)",
    "9^9^9^9^9": "a tower of 4 powers (at most 3)",
    "9^{9^{9}}": "a power of more than 200000 digits",
    "9**9**9": "a power of more than 200000 digits",
    "2^{10000000}": "a power of more than 200000 digits",
    "((2^{999})^{999})^{999}": "a power of more than 200000 digits",
    "(10^{9999})^{9999}": "a power of more than 200000 digits",
    "2^{20!}": "a power of more than 200000 digits",
    "2001!": "the factorial of more than 2000",
    "(9!)!": "the factorial of something that may be huge",
    "(10^{9})!": "the factorial of something that may be huge",
    "9!!!!": "the factorial of something that may be huge",
    r"\binom{99999}{5}": "a binomial or factorial of more than 2000",
}
WITHIN = [
    "", "122", "9" * 1000, "2^{10}", "2^{1000}", "x^{2^{n}}", "2^{2^{2^{2}}}", "7^{2024}", "(x+1)^2(x+2)^3", "5!",
    "20!", "100!", "(3!)!", "10^{12}",
    r"\binom{10}{3}", r"\frac{1}{1+\frac{1}{1+\frac{1}{2}}}", "x^{10}+x^{9}+x^{8}+x^{7}+x^{6}", "e^{-x^2}",
    "2^{2020-2010}", r"(\sqrt{2}+1)^{10}", r"\left(\frac{1}{2}\right)^{100}",
]  # fmt: skip


@pytest.mark.parametrize("text", BEYOND)
def test_beyond_a_bound(text: str) -> None:
    assert beyond(text) == BEYOND[text]
    assert (unreadable(text) or too_large(text)) == BEYOND[text]


@pytest.mark.parametrize("text", WITHIN)
def test_within_every_bound(text: str) -> None:
    assert beyond(text) is None


def test_nesting_counts_every_bracket() -> None:
    assert [nesting(t) for t in ("", "()", "(())()", r"\{[()]\}", "((", "))", r"\begin{a}{}\end{a}")] == [
        0,
        1,
        2,
        3,
        2,
        0,
        2,
    ]


def test_structures() -> None:
    one, two = Number(Fraction(1)), Number(Fraction(2))
    assert read("1, 2") == Series("list", (one, two))
    assert read(r"\{1, 2\}") == Series("set", (one, two), "{", "}")
    assert read("[1, 2)") == Series("tuple", (one, two), "[", ")")
    assert read("]1, 2]") == Series("tuple", (one, two), "(", "]")
    assert read(r"(1,2)\cup\{1\}") == Union((Series("tuple", (one, two), "(", ")"), Series("set", (one,), "{", "}")))
    assert read(r"\begin{pmatrix}1&2\\2&1\end{pmatrix}") == Matrix(((one, two), (two, one)))
    assert read("x = 1") == Named("x", one)
    assert read(r"1 \le x < 2") == Named("x", Series("tuple", (one, two), "[", ")"))
    assert read(r"\pm 1") == Series("list", (one, Number(Fraction(-1))))
    assert read("1+1=2") == Claim((Formula("1+1"), two), False)
    assert read(r"\text{Even}") == Words("even")
    assert read("  ") is None


def test_spans_in_normal_form() -> None:
    # (1,2] and (2,3) meet in 2; (1,2) and (2,3) do not; {2} fills the gap
    def spans(text: str) -> object:
        found = read(text)
        assert found is not None
        return merged(found)

    whole = [(Fraction(1), False, Fraction(3), False)]
    assert spans(r"(1,2]\cup(2,3)") == whole
    assert spans(r"(1,2)\cup\{2\}\cup(2,3)") == whole
    assert spans(r"(2,3)\cup(1,2]\cup(1,2)") == whole
    assert spans(r"(1,2)\cup(2,3)") != whole
    assert spans("(x,3)") is None


def test_formulas_are_told_apart_exactly() -> None:
    assert same_formula("2^{100}", "4^{50}")
    assert not same_formula("2^{100}", "2^{100}+1")  # equal in the first thirty digits
    assert not same_formula(r"2^{100}+\sqrt{2}", r"2^{100}+\sqrt{3}")
    assert not same_formula(r"e^{\pi\sqrt{163}}", "262537412640768744")  # they differ in the 31st digit
    assert same_formula(r"\cos 2x", r"1-2\sin^2 x")
    assert not same_formula("x", "|x|")


def test_relations_are_the_same_up_to_a_factor() -> None:
    assert same_relation(("y", "2x+1"), ("2y-4x", "2"), directed=False)
    assert not same_relation(("y", "2x+1"), ("y", "2x-1"), directed=False)
    assert same_relation(("x", "y"), ("2x", "2y"), directed=True)
    assert not same_relation(("x", "y"), ("-x", "-y"), directed=True)  # the sign turns an inequality around


def test_statements_come_from_the_right_place() -> None:
    assert statement(r"\boxed{1} was my first try. <answer>2</answer>") == "2"
    assert statement(r"\boxed{1} <answer>2</answer>") == "1, 2"  # side by side: alternatives
    assert statement(r"<answer>2</answer> and \boxed{1}", in_words=False) == "2, 1"
    assert statement(r"<answer>the value is \boxed{3}</answer>") == "3"
    assert statement("<think>\\boxed{1}</think> The answer is 2.") == "2"
    assert statement("<think>\\boxed{1}</think>\n ") == "1"
    assert statement("#### 4\nThe answer is 5.") == "4"
    assert statement("The answer is B because A is not", choice=True) == "B"
    assert statement("The answer is even, as 4 divides it", in_words=True) == "even"
    assert [t[2] for t in tags("<answer>1</answer></answer><answer>2<answer>3</answer>")] == ["1", "3"]


def test_brackets_and_separators() -> None:
    import re

    assert matching("(a[b{c}])", 0) == 8
    assert matching("(a", 0) == -1
    assert matching(r"\{a\{b\}\}", 1) == 9
    assert split_top(r"1,(2,3),\{4,5\},\begin{a}6,7\end{a}", re.compile(",")) == [
        "1",
        "(2,3)",
        r"\{4,5\}",
        r"\begin{a}6,7\end{a}",
    ]


whole_number = st.integers(-(10**9), 10**9)
FRAMES = [
    "{}",
    "The answer is {}.",
    "\\boxed{{{}}}",
    "so $x = {}$",
    "#### {}",
    "<answer>{}</answer>",
    "**Answer:** {}",
    "${}$",
]


@settings(max_examples=80, deadline=None)
@given(whole_number, st.sampled_from(FRAMES), st.integers(1, 1000))
def test_every_integer_in_every_frame(n: int, frame: str, off: int) -> None:
    assert verdict(str(n), frame.format(n))["value"] == 1.0
    assert verdict(str(n), frame.format(n + off))["value"] == 0.0
    assert verdict(str(n), frame.format(f"{n} or {n + off}"))["value"] == 0.0
    assert verdict(str(n + off), frame.format(f"{n} or {n + off}"))["value"] == 0.0


@settings(max_examples=80, deadline=None)
@given(st.integers(-999, 999), st.integers(1, 999), st.integers(1, 50))
def test_a_fraction_in_every_form(over: int, under: int, factor: int) -> None:
    gold = f"\\frac{{{over}}}{{{under}}}"
    assert verdict(gold, f"\\boxed{{\\dfrac{{{over * factor}}}{{{under * factor}}}}}")["value"] == 1.0
    assert verdict(gold, f"The answer is {over}/{under}.")["value"] == 1.0
    assert verdict(gold, f"\\boxed{{{over / under:.10f}}}")["value"] == 1.0  # ten places round it
    assert verdict(gold, f"\\boxed{{\\frac{{{over}}}{{{under + factor}}}}}")["value"] == float(over == 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_sets_have_no_order_and_tuples_do(values: list[int], draw: object) -> None:
    shuffled = list(values)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    inside, mixed = ", ".join(map(str, values)), ", ".join(map(str, shuffled))
    assert verdict(f"\\{{{inside}\\}}", f"\\boxed{{\\{{{mixed}\\}}}}")["value"] == 1.0
    assert verdict(f"({inside})", f"\\boxed{{({mixed})}}")["value"] == float(values == shuffled)


_SIGNS = r"\boxed{ } { ( ) [ ] \{ \} $ , ; = < ^ _ \frac \sqrt{2} \pm \cup \text{ \infty & \\ % ! x 42 1 2 ٤ ½"
_PIECES = (" or ", "\n", " ", "answer is ", "#### ", "<answer>", "</answer>", "\x00", "\ud800", r"\begin{pmatrix}")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["42", r"\{1,2\}", "x+1", r"\text{even}", "B", "[0,1)", "y=2x"]),
    st.lists(
        st.sampled_from(
            [*_SIGNS.split(), *_PIECES]
        ),
        max_size=25,
    ),
)  # fmt: skip
def test_any_text_gets_a_verdict_in_bounded_time(gold: str, pieces: list[str]) -> None:
    found = judge_one({"answer": gold, "text": "".join(pieces), "cpu_s": 2.0})
    assert found["value"] in (0.0, 1.0)
    assert isinstance(found["note"], str)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may meet a gc hook
def test_a_slow_reference_is_the_rows_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_done(tex: str) -> None:
        while tex:
            pass

    monkeypatch.setattr("charter.reward.math_answer.parsed", never_done)
    found = judge_one({"answer": "x + 7919", "text": r"\boxed{3}", "row": "row 1: ", "cpu_s": 0.05})
    assert found == {"failed": "row 1: the reference answer 'x + 7919' takes more CPU time to parse than an answer may"}


def test_equality_is_reflexive_over_all_structures() -> None:
    golds = ["3", r"\sqrt{2}", "x+1", r"\{1,2\}", "(1,2)", "[1,2)", "y=2x+1", r"\pm 2", r"\text{no}", r"5\text{ cm}"]
    for a, b in itertools.product(golds, golds):
        assert verdict(a, f"\\boxed{{{b}}}")["value"] == float(a == b), (a, b)
