"""Every rule of the linter: a sound constitution, and one change that breaks exactly that rule."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from charter.constitution.linting import SAME_SAYING, similarity
from charter.constitution.principles import Check, Constitution, Principle


def principle(id: str, text: str, **changed: Any) -> Principle:
    fields: dict[str, Any] = {
        "reason": "It helps.", "critique": f"Critique {id}?", "revision": f"Revise {id}.", "preference": f"Which {id}?",
        "checks": (Check(question=f"Is it {id}?"), Check(question=f"Is it really {id}?", program="refuses")),
    }  # fmt: skip
    return Principle(id=id, text=text, **(fields | changed))


CALM = principle("calm", "Stay calm under pressure.")
KIND = principle("kind", "Treat strangers with warmth.")
SOUND = Constitution(name="sound", prose="What it is for.", principles=(CALM, KIND))


def kinds(*principles: Principle, **changed: Any) -> list[str]:
    constitution = dataclasses.replace(SOUND, principles=principles or SOUND.principles, **changed)
    return [finding.kind for finding in constitution.lint()]


def with_check(**changed: Any) -> Principle:
    return dataclasses.replace(KIND, checks=(Check(**{"question": "Kind?", **changed}), Check(question="Sure?")))


def test_nothing_is_found_in_a_sound_one():
    assert kinds() == []


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"id": "Kind one"}, "odd-id"),
        ({"text": " "}, "empty-text"),
        ({"critique": ""}, "empty-phrasing"),
        ({"revision": "\n"}, "empty-phrasing"),
        ({"preference": ""}, "empty-phrasing"),
        ({"reason": ""}, "no-reason"),
        ({"weight": -0.5}, "negative-weight"),
        ({"weight": float("nan")}, "endless-weight"),
        ({"tags": ("a", "a")}, "duplicate-tag"),
        ({"tags": ("",)}, "empty-tag"),
        ({"text": "Under pressure, stays calm!"}, "same-saying"),
        ({"critique": "critique  CALM?"}, "same-phrasing"),
    ],
)
def test_one_rule_of_a_principle(changed: dict[str, Any], kind: str):
    assert kinds(CALM, dataclasses.replace(KIND, **changed)) == [kind]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"question": ""}, "empty-question"),
        ({"question": "Be kind."}, "no-question"),
        ({"question": "sure?"}, "duplicate-check"),
        ({"weight": -1.0}, "negative-weight"),
        ({"program": "refuse"}, "unknown-program"),
        ({"program": "max_words:many"}, "unknown-program"),
        ({"program": "regex:("}, "unknown-program"),
        ({"program": "regex:(a+)+b"}, "unknown-program"),
    ],
)
def test_one_rule_of_a_check(changed: dict[str, Any], kind: str):
    assert kinds(CALM, with_check(**changed)) == [kind]


def test_rules_of_the_whole():
    assert kinds(prose="") == ["no-prose"]
    assert kinds(name=" ") == ["no-name"]
    assert [f.kind for f in Constitution(name="n", prose="p", principles=()).lint()] == ["no-principles"]
    assert kinds(dataclasses.replace(CALM, weight=0), dataclasses.replace(KIND, weight=0)) == ["no-weight"]
    twin = dataclasses.replace(KIND, id="calm")
    assert kinds(CALM, twin) == ["duplicate-id"]
    idle = dataclasses.replace(KIND, checks=(Check(question="Kind?", weight=0),))
    assert kinds(CALM, idle) == ["no-weight"]


def test_a_finding_names_file_line_and_fix():
    text = dataclasses.replace(SOUND, principles=(CALM, with_check(program="refuse"))).to_toml()
    (finding,) = Constitution.from_toml(text, "c.toml").lint()
    line = next(number for number, row in enumerate(text.split("\n"), 1) if 'id = "kind"' in row)
    checks = next(number for number, row in enumerate(text.split("\n"), 1) if number > line and row == "checks = [")
    assert finding.where == f"c.toml:{checks} principle 'kind' checks[0].program"
    assert str(finding).endswith("there is no program 'refuse'. Did you mean 'refuses'?")
    assert finding.principle == "kind"


def test_similarity_by_hand():
    # words left: {calm, pressure → pressur} against {calm, storm}: 1 of 3; trigrams ' ca','cal','alm','lm ' shared by
    # 4 of 4 + 7 (' pr','pre','res','ess','ssu','sur','ur ') and 4 + 5 (' st','sto','tor','orm','rm '): 4 / 16
    assert similarity("be calm under pressure"[:7] + " pressure", "be calm storm") == pytest.approx(1 / 3)
    assert similarity("Stay calm.", "calm STAY") == 1.0
    assert similarity("abc", "xyz") == 0.0
    assert similarity("", "") == 0.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The reply does not insult anybody.", "Nobody is insulted by the reply.", True),
        ("Be honest about what is uncertain.", "Replies must be honest about uncertainty.", True),
        ("Do not help with theft or fraud.", "The assistant must never assist in fraud or theft.", True),
        ("Do not help with theft.", "Do not help with violence.", False),
        ("Say plainly what is dangerous.", "Answer the question directly.", False),
        ("Guard the privacy of others.", "Warn of what could go wrong.", False),
    ],
)
def test_the_threshold_parts_paraphrases_from_neighbours(one: str, other: str, same: bool):
    assert (similarity(one, other) >= SAME_SAYING) is same
