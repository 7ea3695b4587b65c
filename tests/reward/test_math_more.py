"""`math`: further answers, right ones, wrong ones and hedges, beyond the table with its reasons (math_table.toml)."""

from __future__ import annotations

import pytest

from charter.reward.math_answer import verdict

# fmt: off
RIGHT = [
    ("42", "Answer: 42"), ("42", r"The answer is: $\boxed{42}$"), ("42", "**42**"), ("42", "= 42"), ("42", "So x=42"),
    ("42", "Therefore, x = 42."), ("42", "The value is 42 apples"), ("42", "I got 42"), ("42", "42."), ("42", "42.0"),
    ("42", r"\boxed{42.}"), ("42", r"\boxed{ 42 }"), ("42", r"\boxed{\$42}"), ("42", r"\boxed{42 dollars}"),
    ("42", r"\fbox{42}"), ("42", r"\boxed{x=42}"), ("42", r"\boxed{x = 42 \text{ cm}}"), ("42", r"$$\boxed{42}$$"),
    ("42", r"\[ \boxed{42} \]"), ("42", r"\boxed{\boxed{42}}"), ("42", r"\boxed{{42}}"),
    ("42", r"\boxed{\mathbf{42}}"), ("42", r"\boxed{\textbf{42}}"), ("42", r"\boxed{42}."),
    ("42", r"\boxed{42}\text{ cm}"), ("42", r"\boxed{\displaystyle 42}"), ("42", r"\boxed 42"),
    ("5", "The answer is 5 or so."), ("-5", "The answer is -5"), ("-5", r"\boxed{−5}"), ("5", r"\boxed{+5}"),
    ("5", r"\boxed{|-5|}"), ("5", r"\boxed{--5}"), (r"\frac12", r"\boxed{\frac{1}{2}}"), (r"\dfrac{1}{2}", "0.5"),
    ("1/2", r"\boxed{2^{-1}}"), ("1/3", r"\boxed{0.3333333333}"), ("x^2", r"\boxed{x^2}"),
    ("x^2", r"\boxed{x\cdot x}"), ("2x", r"\boxed{x+x}"), ("2x", r"\boxed{2*x}"), ("2x", r"\boxed{2 \times x}"),
    (r"\frac{a}{b}", r"\boxed{a/b}"), ("ab", r"\boxed{ba}"), ("x", r"\boxed{x}"),
    (r"\sqrt{2}", r"The answer is $\sqrt{2}$."), (r"\sqrt{2}", r"The answer is \sqrt{2}."), (r"\sqrt{2}", "sqrt(2)"),
    (r"\sqrt{2}", r"\boxed{sqrt(2)}"), (r"\sqrt{2}", r"\boxed{2^{1/2}}"), (r"\sqrt{2}", r"\boxed{2^{0.5}}"),
    (r"\sqrt{2}", r"\boxed{1.41421356}"), (r"\frac{\pi}{4}", r"\boxed{\pi/4}"),
    (r"\frac{\pi}{4}", r"\boxed{0.25\pi}"), (r"2\pi", r"\boxed{2π}"), (r"2\pi", "The answer is 2π."),
    (r"\pi", r"The answer is $\pi$"), (r"\pi", "The answer is π"), (r"4\pi", r"\boxed{4\pi \text{ cm}^2}"),
    (r"4\pi", r"\boxed{4\pi\ \text{square units}}"), ("(3, -2)", r"\boxed{(3,-2)}"),
    ("(3, -2)", "The answer is (3, -2)."), ("(3,-2)", "$(3,-2)$"), ("(3,-2)", r"\boxed{\left( 3, -2 \right)}"),
    ("(3,-2)", r"\boxed{(3;-2)}"), ("(3,-2)", r"\boxed{x=3,\ y=-2}"),
    (r"(\frac{1}{2}, \sqrt{3})", r"\boxed{(0.5,\sqrt3)}"), (r"\{1, 2, 3\}", r"\boxed{\{3, 2, 1\}}"),
    (r"\{1,2,3\}", "The answer is {1, 2, 3}."), (r"\{1,2,3\}", "The answer is 1, 2, 3."),
    ("1,2,3", "The answer is 1, 2, and 3."), ("1,2,3", r"\boxed{1, 2, \text{ and } 3}"), ("2, -3", "x = 2 or x = -3"),
    ("2, -3", "The answer is x = 2 or x = -3."), ("2,-3", "$x=2$ or $x=-3$"), ("2,-3", r"\boxed{x=2}, \boxed{x=-3}"),
    ("2,-3", r"\boxed{2} and \boxed{-3}"), ("[0, 1]", r"\boxed{[0,1]}"), ("[0,1]", r"\boxed{0 \leq x \leq 1}"),
    ("[0,1)", "The answer is [0, 1)."), (r"(-\infty, 2) \cup (3, \infty)", r"\boxed{(-\infty,2)\cup(3,\infty)}"),
    (r"(-\infty, 2) \cup (3, \infty)", r"\boxed{x<2 \text{ or } x>3}"),
    (r"(-\infty,2)\cup(3,\infty)", "(-∞, 2) U (3, ∞)"),
    (r"(-\infty,2)\cup(3,\infty)", r"\boxed{x \in (-\infty, 2) \cup (3, \infty)}"),
    (r"x \geq 2", r"\boxed{[2,\infty)}"), (r"x\ge 2", r"\boxed{x ≥ 2}"), (r"x \ge 2", "x >= 2"),
    ("x>=2", r"\boxed{x \geq 2}"), ("x < 5", r"\boxed{5 > x}"), ("3+2i", r"\boxed{2i+3}"),
    ("3+2i", "The answer is 3+2i"), ("3+2i", r"\boxed{3 + 2\mathrm{i}}"), (r"2\sqrt{2}i", r"\boxed{2i\sqrt{2}}"),
    ("i", r"\boxed{\sqrt{-1}}"), ("25", "25%"), ("0.25", "25%"), (r"50\%", r"\boxed{1/2}"),
    ("50%", "The answer is 50%."), ("50", "The answer is 50 percent"), ("1000", r"\boxed{1,000}"), ("1,000", "1000"),
    ("1,000,000", r"\boxed{10^6}"), ("1000000", "The answer is 1,000,000."), ("3.5", r"\boxed{3\frac12}"),
    (r"3\frac{1}{2}", r"\boxed{7/2}"), (r"5\text{ cm}", "The answer is 5 cm."), ("5 cm", r"\boxed{5 \mathrm{~cm}}"),
    ("5 cm", r"\boxed{50 mm}"), ("10 m/s", r"\boxed{10\ \mathrm{m/s}}"),
    (r"10 \text{ m/s}^2", r"\boxed{10 \text{ m/s}^2}"), ("$18", r"\boxed{18}"), ("18", "$18"),
    ("18", "The answer is $18.00"), ("18", r"\boxed{\$18.00}"), ("A", r"\boxed{A}"), ("A", "The answer is (A)"),
    ("A", "A"), ("A", "Answer: A"), ("A", "(A)"), ("A", "The correct answer is A."), ("A", "The correct option is A"),
    ("C", "I choose C"), ("C", "The answer is **C**."), ("C", "Answer: C) 12"), ("D", "<answer>D</answer>"),
    ("A", r"\boxed{\text{A}}"), ("B", r"\boxed{b}"), ("Yes", r"\boxed{\text{Yes}}"), ("Yes", "Yes"),
    ("True", r"\boxed{True}"), ("even", "The number is even."), ("Monday", "The answer is Monday."),
    ("Monday", r"\boxed{Monday}"), ("blue", r"\boxed{\text{blue}}"),
    (r"\text{Infinitely many}", r"\boxed{\text{infinitely many}}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}"),
    (r"\begin{bmatrix} 1 & 0 \\ 0 & 1 \end{bmatrix}", r"\boxed{\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"$$\begin{pmatrix}1&2\\3&4\end{pmatrix}$$"),
    ("y = 2x + 1", r"\boxed{y = 2x + 1}"), ("y=2x+1", r"\boxed{2x - y + 1 = 0}"), ("2x+1", r"\boxed{y=2x+1}"),
    ("f(x) = x^2", r"\boxed{x^2}"), ("x^2 + y^2 = 1", r"\boxed{x^2+y^2-1=0}"), ("x=5", "The answer is x = 5."),
    ("x=5", r"\boxed{5}"), ("a=1, b=2", r"\boxed{b=2, a=1}"), (r"1.5 \times 10^{-3}", r"\boxed{0.0015}"),
    ("3e8", r"\boxed{3 \times 10^8}"), (r"\infty", r"\boxed{\infty}"), (r"\infty", "The answer is ∞"),
    (r"\infty", r"\boxed{infinity}"), ("10_{2}", r"\boxed{10_2}"), ("AB_{16}", r"\boxed{AB_{16}}"),
    ("1A_{16}", r"\boxed{1A}"), ("0", r"\boxed{0}"), ("0", r"\boxed{-0}"), ("1:2", r"\boxed{1:2}"),
    ("1:2", r"\boxed{\frac{1}{2}}"), ("3:30", "3:30"), (r"\frac{1}{2}", r"\boxed{1:2}"), ("x+C", r"\boxed{x+C}"),
    ("e^x + C", r"\boxed{e^{x}+C}"), (r"\ln(2)", r"\boxed{\ln 2}"), (r"\log_{10} 100", "2"),
    (r"\sin(30^\circ)", r"\boxed{\frac12}"), ("n!", r"\boxed{n!}"), (r"\binom{n}{2}", r"\boxed{\frac{n(n-1)}{2}}"),
    ("2^n", r"\boxed{2^{n}}"), ("(-1)^n", r"\boxed{(-1)^{n}}"), ("7", "7 (seven)"), ("7", "seven (7)"),
    ("10", "It took 3+7=10 minutes."), ("10", "3 + 7 = 10 minutes total"), ("8", "The answer is 8, since 3+5=8."),
    ("8", "The answer is 2^3 = 8"), ("8", "2^3"), ("72", r"\boxed{72 \text{ clips}}"), ("109", "We need 109 more."),
    (r"1 \frac{1}{2}", "1.5"), ("0.05", r"5\%"), ("5", r"\boxed{5%}"), (r"\frac{7}{3}", r"\boxed{2\frac{1}{3}}"),
    (r"\frac{7}{3}", r"\boxed{2 1/3}"), (r"-\frac{7}{3}", r"\boxed{-2\frac{1}{3}}"), ("11", r"\boxed{\text{11}}"),
    ("12:30", r"\boxed{12:30}"), ("12:30 pm", r"\boxed{12:30 pm}"), ("2024-01-01", r"\boxed{2024-01-01}"),
    ("6", r"\boxed{3!}"), ("y=3", r"\boxed{3=y}"), ("3", r"\boxed{3=x}"), ("1", r"\boxed{1=1}"),
    (r"\{(1,2),(3,4)\}", r"\boxed{\{(3,4),(1,2)\}}"), ("(1,2),(3,4)", r"\boxed{(3,4), (1,2)}"),
    ("(1,2),(3,4)", r"\boxed{(1,2) \text{ and } (3,4)}"), (r"\frac{x+1}{x-1}", r"\boxed{1+\frac{2}{x-1}}"),
    (r"\tan x", r"\boxed{\frac{\sin x}{\cos x}}"), (r"\frac{1}{2}\ln 3", r"\boxed{\ln\sqrt3}"),
    (r"\sqrt{x^2+1}", r"\boxed{(x^2+1)^{1/2}}"), ("|x-1|", r"\boxed{|1-x|}"),
    (r"\lfloor x\rfloor", r"\boxed{\lfloor x \rfloor}"), (r"\vec{v}", r"\boxed{\vec{v}}"),
    (r"\mathbf{i}+2\mathbf{j}", r"\boxed{2\mathbf{j}+\mathbf{i}}"), (r"\angle A", r"\boxed{\angle A}"),
    (r"\frac{a}{b}", r"Thus the ratio is $\frac{a}{b}$."), (r"\frac{a}{b}", 'So\n$$\\frac{a}{b}$$'),
    (r"\frac{a}{b}", r"The answer is clearly $\frac{a}{b}$, since b > 0."), ("even", "Thus it is even."),
    ("even", "The answer is even because 4 = 2*2."), (r"\text{even}", r"The answer is $\text{even}$."),
    ("x+y", "The answer is x+y."), ("x+y", "x+y"), ("x+y", "Hence we have $x+y$."),
    (r"\pi", r"Hence the area is $\pi$ square units."), (r"\pi", r"The answer is $\pi \approx 3.14159$"),
    ("0.5", r"\boxed{\frac12} or 50%"), ("5 m", r"\boxed{5\text{ m}} or 500 cm"), ("0.5", r"\boxed{\frac12}, or 0.5"),
    ("B", "Looking at the options, the best choice is (B)."), ("no", "The answer is no"),
    (r"\infty", r"Thus the limit is $\infty$."), (r"\mathbb{R}", r"Thus the domain is $\mathbb{R}$."),
    ("x", "The answer is $x$"), ("ABC", "The answer is ABC"), ("Paris", "Paris"), ("Paris", "It is Paris"),
    ("21", "Seven boxes hold 7 * 3 = <<7*3=21>>21 pens.\nThat makes $<<7*3=21>>21 in all."),
    ("3", "Half of 2 is 2/2=<<2/2=1>>1 metre\nTogether they need 2+1=<<2+1=3>>3 metres of rope"),
    ("70000", "They earn 90000-20000=$<<90000-20000=70000>>70,000"),
    ("540", "They walk 9*60=540 meters a day."), ("20", "What is left is 60-15-25=<<60-15-25=20>>20 cups"),
    ("64", "All in all they pay $40 + $24 = $64 for the plates."), ("160", "The answer is 160 minutes."),
    ("45", r"Final Answer: The final answer is $\boxed{45}$. I hope it is correct."),
    ("460", "He earns 400+60=$460 a week"), ("1/2", "The probability is 1/2."), ("-3/4", "The slope is -3/4."),
    ("2.5", "It is about 2.5 hours"), ("5", "5/1"), ("366", "366 downloads in total"), ("57", "57% of them"),
    ("25", "25%."), ("7", "Thus $x = 7$ and we are done."), ("7", 'Thus $x = 7$.\n\nThis completes the proof.'),
    ("(0,5)", "We get $(x, y) = (0, 5)$."), ("(0,5)", r"\boxed{(x,y)=(0,5)}"), ("6", r"\boxed{6 \text{ ways}}"),
    ("6", r"\boxed{6\ \text{ways}}"), ("10", r"\boxed{10\%}"), (r"10\%", r"\boxed{10 \%}"), ("0", r"\boxed{0\%}"),
    ("3", r"$x=\boxed{3}$"), ("3", r"$\boxed{3}$ apples"), ("3", r"$\boxed{3}$ or three"),
]
WRONG = [
    ("42", r"\boxed{42} or 43"), ("42", r"\boxed{42} or 43 cm"), ("Paris", "London or Paris"),
    ("Paris", r"\boxed{Paris, London}"), ("Paris", "The answer is Paris or London"),
    ("12", "There are 12 of them (3 x 4)."), ("5", r"\boxed{x = 5, \text{ so the answer is } 5}"),
    ("42", "forty-two"), ("42", "The answer is forty-two"), ("1/2", "one half"), ("2/3", r"\boxed{0.667}"),
    ("x", r"\boxed{y}"), ("n", r"\boxed{N}"), (r"\sqrt{2}", r"\boxed{1.414}"),
    (r"\frac{\pi}{4}", r"\boxed{45^\circ}"), ("1,2,3", r"\boxed{1,2}"), ("5 cm", r"\boxed{6 cm}"),
    ("A", r"\boxed{B}"), ("A", "A, B"), ("A", "A or B"), ("No", "The answer is yes"), ("a=1,b=2", r"\boxed{a=2,b=1}"),
    (r"-\infty", r"\boxed{\infty}"), ("0", r"\boxed{\emptyset}"), ("42", r"\boxed{42 \pm 0.5}"),
    ("43", r"\boxed{42}\boxed{43}"), ("43", "The answer is 41, 42, 43"), ("43", "41 42 43"), ("43", "1 2 3 ... 43"),
    ("42", "<answer>41 or 42</answer>"), ("42", "#### 41 or 42"), ("42", r"\boxed{42?}"),
    ("42", r"\boxed{41}, \boxed{42}"), ("42", "(41, 42)"), ("1:2", r"\boxed{2:1}"), (r"\ln 2", r"\boxed{\log 2}"),
    ("12", "12 inches = 1 foot"), ("5", "There are 5 left of the 12."), ("7", "the answer is 7th"),
    ("11", r"\boxed{11^{th}}"), ("(1,2),(3,4)", r"\boxed{(2,1),(3,4)}"), ("(0,0)", r"\boxed{(0,0),(1,1)}"),
]
HEDGES = [
    r"\boxed{42 \quad 43}", r"\boxed{42 \ldots}", r"\boxed{42\\43}", r"\boxed{42 \text{ (or maybe } 43)}",
    r"\boxed{42|43}", r"\boxed{42 vs 43}", r"\boxed{42 - 43}", r"\boxed{42 \neq 43}", r"\boxed{42_{43}}",
    r"\boxed{42 \text{ not 43}}", r"\boxed{42 \text{ apples or } 43}", r"\boxed{\text{42 or 43}}",
    r"\boxed{42\text{ or 43}}", r"\boxed{42 \cup 43}", r"\boxed{\{42\}\cup\{43\}}", r"\boxed{42 \approx 43}",
    r"\boxed{42 \to 43}", r"\boxed{42 \implies 43}", r"\boxed{42 \Rightarrow 43}", r"\boxed{42 \equiv 43}",
    r"\boxed{(42)(43)}", r"\boxed{42(43)}", r"\boxed{42[43]}", r"\boxed{x=42, x=43}", r"\boxed{42 \vee 43}",
    r"\boxed{42 \mid 43}", r"\boxed{42/43}", r"\boxed{42\%43}", r"\boxed{\begin{cases}42\\43\end{cases}}",
    r"\boxed{\begin{pmatrix}42\\43\end{pmatrix}}", r"\boxed{\min\{42,43\}}", r"\boxed{42 and 43}",
    r"\boxed{42} and/or \boxed{43}", r"\boxed{42} (or \boxed{43})", r"\boxed{42}, possibly \boxed{43}",
    r"It's either \boxed{42} or it's \boxed{43}", r"\boxed{42} could be, or \boxed{43}",
    r"\boxed{42} maybe. Or \boxed{43}.", "The answer is 42 or 43", "The answer is 42, or 43",
    "The answer is 42 (or 43)", "The answer is 42/43", "The answer is 42; 43", "The answer is 42 and 43",
    "The answer is 42 maybe 43", "The answer is 42, maybe 43.", "The answer is 42? 43?", "The answer is 42 - 43",
    "The answer is 42-43", "The answer is 42 to 43", "The answer is between 42 and 43", 'Answer: 42\nor 43',
    "The answer is $42$ or $43$.", "The answer is $42$, $43$.", "The answer is $42, 43$", "42 | 43", "42, 43",
    "[42, 43]", "42 or 43", "either 42 or 43", "42 43", "#### 42 or 43", "#### 42, 43", "#### 42 43",
    "<answer>42, 43</answer>", "<answer>42 or 43</answer>", "<answer>42</answer><answer>43</answer>",
    "<answer>42 43</answer>", "<answer>Either 42 or 43.</answer>", "$42$ $43$", r"\(42\) or \(43\)", "42 (43)",
    "maybe 42, maybe 43", "The answer is 42. It could also be 43.", "The answer is 42 or it is 43.",
    "The answer could be 42, but may be 43.",
]
"""Completions that name 42 and 43 in one statement: right for neither."""
# fmt: on


@pytest.mark.parametrize(("gold", "text"), RIGHT)
def test_right(gold: str, text: str) -> None:
    assert verdict(gold, text) == {"value": 1.0, "note": ""}


@pytest.mark.parametrize(("gold", "text"), WRONG)
def test_wrong(gold: str, text: str) -> None:
    found = verdict(gold, text)
    assert found["value"] == 0.0
    assert found["note"]


@pytest.mark.parametrize("text", HEDGES)
def test_a_statement_of_several_answers_is_none(text: str) -> None:
    assert [verdict(gold, text)["value"] for gold in ("42", "43")] == [0.0, 0.0]
