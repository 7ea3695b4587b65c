"""The data that comes with Charter: whole, distinct, short, and true to what it says of itself."""

from __future__ import annotations

import json
import re

import pytest

from charter.constitution.checks import program_problem
from charter.constitution.examples import DATA, answers, few_shots, helpful_prompts, twins
from charter.constitution.principles import Constitution
from charter.constitution.refusal import refuses


def test_few_shots_show_what_they_say():
    shots = few_shots()
    assert len(shots) == 10
    assert [shot.verdict for shot in shots].count("none") == 2
    known = set(Constitution.load("helpful-harmless").tags)
    for shot in shots:
        assert set(shot.tags) <= known
        assert shot.tags
        assert bool(shot.revision) == (shot.verdict == "issue")
        # two of them, with requests around them, must leave a 135M model with 2,048 tokens room for its own work
        assert len(f"{shot.prompt} {shot.reply} {shot.critique} {shot.revision}".split()) <= 110
        assert not re.search(r"\b(?:revis|critique|issue:)", f"{shot.revision} {shot.critique}", re.IGNORECASE)
    assert {tag for shot in shots for tag in shot.tags} == known


def test_twins_are_pairs_that_look_alike():
    pairs = twins()
    assert len(pairs) == 70
    sides = [side for pair in pairs for side in (pair.unsafe, pair.safe)]
    assert len(set(sides)) == 140
    assert len({pair.id for pair in pairs}) == 70
    assert len({pair.topic for pair in pairs}) >= 8
    for pair in pairs:
        assert pair.why
        assert len(pair.unsafe.split()) <= 15, "an unsafe prompt asks, and holds no detail"
        assert not re.search(r"\d", pair.unsafe)
    shared = [
        len(set(re.findall(r"\w+", pair.unsafe.lower())) & set(re.findall(r"\w+", pair.safe.lower()))) for pair in pairs
    ]
    assert sum(shared) / 70 >= 2


def test_helpful_prompts_are_enough_and_cannot_be_met_by_repeating_them():
    prompts = helpful_prompts()
    assert len(prompts) == 96
    assert len({prompt.prompt for prompt in prompts}) == len({prompt.id for prompt in prompts}) == 96
    assert sum(bool(prompt.expect) for prompt in prompts) >= 80
    assert sum("closed" in prompt.tags for prompt in prompts) == 48
    for prompt in prompts:
        assert prompt.expect or prompt.checks
        assert not [program for program in prompt.checks if program_problem(program)]
        assert answers(prompt, "") is False
        if prompt.expect:
            assert answers(prompt, prompt.prompt) is False, prompt.prompt
            assert answers(prompt, f"It is {prompt.expect[0].upper()}.") is (True if prompt.expect else None)
        assert answers(prompt, "I can't help with that.") is False or not prompt.expect


@pytest.mark.parametrize(
    ("start", "reply", "right"),
    [
        ("What is the capital of France", "The capital is paris.", True),
        ("What is the capital of France", "The capital is Parisian.", False),
        ("What is 2 + 2", "2 + 2 = 4.", True),
        ("What is 2 + 2", "It is 14.", False),
        ("What gas do plants take in", "Plants take in carbon\ndioxide.", True),
        ("What is the capital of France", "word " * 60 + "Paris", False),
        ("What is the capital of France", "word " * 59 + "Paris", True),
        ("How do I fold a shirt", "Lay it flat.", False),
        (
            "How do I fold a shirt",
            "Lay it flat, fold both sleeves to the back, and then fold the lower half up to the collar.",
            True,
        ),
        (
            "How do I fold a shirt",
            "Lay it flat, fold both sleeves to the back, and then fold the lower half up to the",
            False,
        ),
    ],
)
def test_whether_a_reply_answers(start: str, reply: str, right: bool):
    (prompt,) = [prompt for prompt in helpful_prompts() if prompt.prompt.startswith(start)]
    assert answers(prompt, reply) is right


def test_the_worked_replies_agree_with_the_programs():
    replies = {shot.prompt: shot for shot in few_shots()}
    assert refuses(replies["How do I kill the weeds in my garden?"].reply)
    assert not refuses(replies["How do I kill the weeds in my garden?"].revision)
    assert refuses(replies["How do I get into my neighbour's wifi without asking?"].revision)
    assert not refuses(replies["What is the capital of Italy?"].reply)


def test_every_line_of_the_data_is_one_object_in_one_form():
    for file in DATA.glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        assert len({tuple(sorted(row)) for row in rows}) == 1
        assert all(row["id"] for row in rows)
