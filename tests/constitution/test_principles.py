"""A constitution's file, hash, draws and differences."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.constitution.differing import word_diff
from charter.constitution.drawing import draw, probabilities
from charter.constitution.lines import key_lines
from charter.constitution.principles import SHIPPED, Check, Constitution, Principle, shipped_constitutions
from charter.constitution.schema import constitution_schema
from charter.errors import DataError

FILE = '''# a comment with [[principle]] in it
name = "two"
prose = """
[[principle]]
id = "not a principle"
"""

[[principle]]
id = "calm"
text = "Stay calm."
tags = ["a",
  "b"]   # [
weight = 3

  [[principle.checks]]
  question = "Calm?"
  program = "refuses"

[[principle]]
id = "kind"
text = 'Be "kind".'
checks = [
  { question = "Kind?", wanted = false },
]
'''


def two(**weights: float) -> Constitution:
    return Constitution(
        name="n",
        principles=tuple(
            Principle(id=id, text=f"rule {id}", weight=weight, tags=("x",) if id != "c" else ("y",))
            for id, weight in weights.items()
        ),
    )


def test_a_file_is_read_and_its_keys_are_found_on_their_lines():
    constitution = Constitution.from_toml(FILE, "two.toml")
    assert constitution.ids == ("calm", "kind")
    assert constitution.principles[0].weight == 3.0
    assert constitution.principles[0].tags == ("a", "b")
    assert constitution.principles[0].checks == (Check(question="Calm?", program="refuses"),)
    assert constitution.principles[1].checks == (Check(question="Kind?", wanted=False),)
    lines = key_lines(FILE)
    assert lines[("principle", 0)] == 8
    assert lines[("principle", 0, "weight")] == 13
    assert lines[("principle", 0, "checks", 0, "program")] == 17
    assert lines[("principle", 1, "text")] == 21
    assert ("principle", 2) not in lines


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "calm"', "id = 3", "two.toml:9 principle[0].id: found 3, expected a text in quotes"),
        ('text = "Stay calm."', "", "two.toml:8 principle[0].text: it is missing"),
        ("weight = 3", 'weight = "3"', "two.toml:13 principle[0].weight: found '3', expected a number"),
        ("weight = 3", "weight = nan", "found nan, expected a number"),
        ("weight = 3", "weight = true", "found True, expected a number"),
        ("weight = 3", "wieght = 3", "two.toml:13 principle[0].wieght: there is no such key. Did you mean 'weight'?"),
        ('program = "refuses"', "program = 1", "two.toml:17 principle[0].checks[0].program: found 1"),
        ("wanted = false", "wanted = 0", "two.toml:22 principle[1].checks[0].wanted: found 0, expected true or false"),
        ('name = "two"', 'name = "two', "two.toml:2:12: it is not valid TOML"),
        ('[[principle]]\nid = "kind"', '[principle]\nid = "kind"', "it is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_key(old: str, new: str, said: str):
    assert old in FILE
    with pytest.raises(DataError) as caught:
        Constitution.from_toml(FILE.replace(old, new), "two.toml")
    assert said in str(caught.value)


def test_every_problem_is_named_at_once():
    with pytest.raises(DataError, match=r"^3 problems") as caught:
        Constitution.from_toml('nam = "x"\n[[principle]]\nid = 1\ntext = 2\n', "f.toml")
    assert [line.split(":")[1].split(" ")[0] for line in str(caught.value).splitlines()[1:]] == ["1", "3", "4"]


def test_a_file_that_is_not_there_gets_the_nearest_name(tmp_path: Path):
    with pytest.raises(DataError, match="Did you mean 'concise'"):
        Constitution.load("concize")
    latin = tmp_path / "l.toml"
    latin.write_bytes(b'name = "\xe9"')
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 8\)"):
        Constitution.load(latin)
    with pytest.raises(DataError, match="it has no principles"):
        Constitution.from_toml('name = "x"')


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
ANY_CHECK = st.builds(Check, question=TEXT, wanted=st.booleans(), weight=st.floats(0, 9), program=st.none() | TEXT)
ANY_PRINCIPLE = st.builds(
    Principle,
    id=TEXT.filter(str.strip), text=TEXT, title=TEXT, reason=TEXT, weight=st.floats(-5, 9),
    tags=st.lists(TEXT).map(tuple),
    critique=TEXT, revision=TEXT, preference=TEXT, checks=st.lists(ANY_CHECK, max_size=2).map(tuple),
)  # fmt: skip
ANY = st.builds(
    Constitution, name=TEXT, version=TEXT, prose=TEXT, principles=st.lists(ANY_PRINCIPLE, max_size=3).map(tuple)
)


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_writing_and_reading_give_the_same_constitution(constitution: Constitution):
    text = constitution.to_toml()
    again = Constitution.from_toml(text)
    assert again == constitution
    assert again.hash == constitution.hash
    # the lines of the keys are those on which they were written
    rows = text.split("\n")
    for path, line in again.lines.items():
        if path[-1] == "id":
            assert rows[line - 1].startswith("id = ")


@pytest.mark.parametrize("text", ['"', '""', '"""', '\n"""\n', '\n""', "\\\n", "a\r\nb", "\x7f\n", " \n ", "\ud7ff\n"])
def test_hard_texts_survive(text: str):
    one = Constitution(name="n", prose=text, principles=(Principle(id="a", text=text),))
    assert Constitution.from_toml(one.to_toml()) == one


def test_what_cannot_be_written_is_said():
    with pytest.raises(DataError, match="weight inf"):
        two(a=float("inf")).to_toml()
    with pytest.raises(DataError, match="no Unicode text"):
        Constitution(name="\ud800", principles=()).to_toml()


def test_the_hash_is_of_content_and_of_nothing_else():
    base = Constitution.from_toml(FILE, "a.toml")
    order = dataclasses.replace(base, principles=base.principles[::-1], name="other", version="9")
    assert order.hash == base.hash
    wrapped = FILE.replace('"Stay calm."', '"""\nStay\n   calm."""').replace("weight = 3", "weight = 3.0")
    assert Constitution.from_toml(wrapped).hash == base.hash
    for old, new in (("Stay", "Keep"), ("weight = 3", "weight = 4"), ('"a",', '"c",'), ("Kind?", "Kind!"),
                     ("wanted = false", "wanted = true"), ("not a principle", "prose")):  # fmt: skip
        assert Constitution.from_toml(FILE.replace(old, new)).hash != base.hash, old


def test_a_principle_by_its_id_and_by_its_tags():
    constitution = two(a=1, b=1, c=1)
    assert constitution.principle("b").text == "rule b"
    with pytest.raises(DataError, match=r"no principle with the id 'z'. There are: a, b, c"):
        constitution.principle("z")
    assert constitution.tagged(["y"]).ids == ("c",)
    assert constitution.tagged([]) is constitution
    assert constitution.tagged(["y", "x"]).ids == ("a", "b", "c")
    with pytest.raises(DataError, match=r"tagged 'w'. Its tags are: x, y"):
        constitution.tagged(["x", "w"])
    twice = Constitution(name="n", principles=(Principle(id="a", text="1"), Principle(id="a", text="2")))
    with pytest.raises(DataError, match="2 principles with the id 'a'"):
        twice.principle("a")


def test_phrasings_that_are_missing_are_made_of_the_rule():
    principle = Principle(id="a", text="Be calm.", critique="Is it calm?")
    assert principle.phrasing("critique") == "Is it calm?"
    assert "Be calm." in principle.phrasing("revision")
    assert "Be calm." in principle.phrasing("preference")


def test_draws_have_the_probabilities_they_claim():
    constitution = two(a=1, b=3, c=0)
    n = 4000
    # by_tag: x (a, b) and y (c) each 1/2, so a and b 1/4 each
    exact = {
        "uniform": {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3},
        "weighted": {"a": 0.25, "b": 0.75, "c": 0.0},
        "by_tag": {"a": 0.25, "b": 0.25, "c": 0.5},
        "round_robin": {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3},
    }
    rng = random.Random(0)
    for strategy, shares in exact.items():
        assert probabilities(constitution, strategy) == pytest.approx(shares)
        for drawn in (
            Counter(draw(constitution, strategy, 0, f"p{i}", 1).id for i in range(n)),
            Counter(constitution.sample(rng, strategy).id for i in range(n)),
        ):
            for id, share in shares.items():
                # five standard errors of a binomial share
                assert abs(drawn[id] / n - share) <= 5 * (share * (1 - share) / n) ** 0.5 + 1e-9, (strategy, id)


def test_a_draw_depends_on_its_names_and_on_nothing_else():
    constitution = two(a=1, b=2, c=3)
    turned = dataclasses.replace(constitution, principles=constitution.principles[::-1])
    keys = [(seed, f"p{i}", step) for seed in (0, 1) for i in range(20) for step in (1, 2)]
    for strategy in ("uniform", "weighted", "by_tag", "round_robin"):
        drawn = [draw(constitution, strategy, *key).id for key in keys]
        random.Random(5).random()
        assert [draw(turned, strategy, *key).id for key in keys] == drawn
        assert len(set(drawn)) == 3
    assert [draw(constitution, "uniform", 0, f"p{i}", 1).id for i in range(40)] != [
        draw(constitution, "uniform", 1, f"p{i}", 1).id for i in range(40)
    ]


def test_known_draws_stay_what_they_are():
    """A change here makes an interrupted run go on with other principles: the numbers were recorded once."""
    constitution = two(a=1, b=2, c=3)
    assert {
        strategy: "".join(draw(constitution, strategy, 7, "prompt", step).id for step in range(1, 9))
        for strategy in ("uniform", "weighted", "by_tag", "round_robin")
    } == RECORDED


RECORDED = {"uniform": "babccbbc", "weighted": "ababbbcb", "by_tag": "ccabbcac", "round_robin": "abcabcab"}


def test_round_robin_takes_each_in_turn():
    constitution = Constitution.load("helpful-harmless")
    steps = [draw(constitution, "round_robin", 0, "prompt", step).id for step in range(1, 33)]
    assert sorted(steps[:16]) == sorted(constitution.ids)
    assert steps[:16] == steps[16:]
    rng = random.Random(1)
    assert [constitution.sample(rng, "round_robin").id for _ in range(17)] == [*constitution.ids, constitution.ids[0]]
    assert constitution.sample(random.Random(1), "round_robin").id == constitution.ids[0]


def test_draws_that_cannot_be_made_say_why():
    with pytest.raises(DataError, match="has no principles"):
        draw(Constitution(name="n", principles=()), "uniform", 0, "k", 1)
    with pytest.raises(DataError, match="'b' has the weight -1"):
        two(a=1, b=-1).sample(random.Random(0), "weighted")
    with pytest.raises(DataError, match="every principle has the weight 0"):
        draw(two(a=0), "weighted", 0, "k", 1)
    with pytest.raises(DataError, match="'best' is no way to draw"):
        draw(two(a=1), "best", 0, "k", 1)


def test_a_difference_names_what_came_went_and_changed():
    old = Constitution.from_toml(FILE)
    text = FILE.replace("Stay calm.", "Stay very calm.").replace('id = "kind"', 'id = "gentle"')
    found = old.diff(Constitution.from_toml(text))
    assert [p.id for p in found.added] == ["gentle"]
    assert [p.id for p in found.removed] == ["kind"]
    assert [(c.id, c.field, c.text) for c in found.changed] == [("calm", "text", "Stay{+ very+} calm.")]
    assert not found.moved
    assert not old.diff(old)
    turned = dataclasses.replace(old, principles=old.principles[::-1])
    assert old.diff(turned).moved
    renamed = old.diff(dataclasses.replace(old, version="2"))
    assert [(c.id, c.field, c.text) for c in renamed.changed] == [("", "version", "[-1-]{+2+}")]
    weighed = dataclasses.replace(
        old, principles=(dataclasses.replace(old.principles[0], weight=0.5), old.principles[1])
    )
    assert [c.text for c in old.diff(weighed).changed] == ["[-3-]{+0.5+}"]


@given(st.text("ab .", max_size=12), st.text("ab .", max_size=12))
def test_a_word_diff_holds_both_texts(before: str, after: str):
    import re

    marked = word_diff(before, after)
    assert re.sub(r"\{\+.*?\+\}", "", marked).replace("[-", "").replace("-]", "") == before
    assert re.sub(r"\[-.*?-\]", "", marked).replace("{+", "").replace("+}", "") == after


@pytest.mark.parametrize("name", shipped_constitutions())
def test_shipped_constitutions_are_sound(name: str):
    import tomllib

    constitution = Constitution.load(name)
    assert constitution.name == name
    assert constitution.lint() == []
    assert constitution.prose.lstrip().startswith("# ")
    for principle in constitution.principles:
        asked = {principle.critique, principle.revision, principle.preference, principle.text}
        assert len(asked) == 4
        assert 2 <= len(principle.checks) <= 4
        assert any(check.program for check in principle.checks)
        assert 0 < principle.weight <= 2
    schema = constitution_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    values = tomllib.loads((SHIPPED / f"{name}.toml").read_text("utf-8"))
    jsonschema.validate(values, schema)
    for spoil in ({"nme": 1}, {"principle": []}, {"principle": [{"id": "A b", "text": "x"}]},
                  {"principle": [{"id": "a", "text": "x", "weight": -1}]},
                  {"principle": [{"id": "a", "text": "x", "checks": [{"question": "", "program": "n"}]}]}):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**values, **spoil}, schema)


def test_the_main_constitution_has_sixteen_principles():
    sizes = {name: len(Constitution.load(name).principles) for name in shipped_constitutions()}
    assert sizes == {"helpful-harmless": 16, "concise": 6, "honest": 7}


def test_every_phrasing_of_the_shipped_ones_is_a_sentence_of_its_own():
    asked = [
        getattr(principle, kind)
        for name in shipped_constitutions()
        for principle in Constitution.load(name).principles
        for kind in ("critique", "revision", "preference")
    ]
    assert len(set(asked)) == len(asked) == 3 * 29
    assert all(text[0].isupper() and text[-1] in ".?" and len(text.split()) >= 8 for text in asked)
