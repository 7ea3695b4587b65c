"""Which completions a rejection stage keeps: counted by hand on scored groups."""

from __future__ import annotations

import hashlib
import json

import pytest

from charter.cli.sampled_examples import examples_of, mixed_in, record_of
from charter.errors import DataError
from charter.recipe.pipeline import CollectionTable
from charter.types import Group, Prompt, Rollout, Score, Scored, StopReason

PROMPT = Prompt(id="p", messages=({"role": "user", "content": "1+1="},))


def scored(*drawn: tuple[str, int, float | None, StopReason]) -> Scored:
    rollouts = tuple(
        Rollout(
            prompt_id="p", index=i, tokens=(7,) * n, logprobs=(0.0,) * n, text=text, stop=stop, version=0,
        )
        for i, (text, n, _, stop) in enumerate(drawn)
    )  # fmt: skip
    scores = tuple(
        Score(value=value) if value is not None else Score(value=None, status="failed") for _, _, value, _ in drawn
    )
    return Scored(group=Group(prompt=PROMPT, rollouts=rollouts), scores=scores)


GROUP = scored(
    ("long right", 9, 1.0, "eos"),
    ("right", 3, 1.2, "eos"),
    ("right", 3, 1.2, "eos"),  # the same text: counts once
    ("wrong", 1, 0.9, "eos"),
    ("cut rig", 2, 1.5, "length"),  # right so far, and cut off
    ("broke", 2, None, "eos"),
    ("  ", 1, 2.0, "eos"),  # nothing to imitate
)


def test_what_passes_is_whole_right_and_not_said_twice():
    row = record_of(GROUP, CollectionTable(threshold=1.0, keep=5), seed=0)
    counts = {key: row[key] for key in ("id", "completions", "scored", "passed", "cut_off")}
    # passed: 1.0, 1.2, 1.2, 1.5, 2.0; of these the cut one and the empty one are no examples
    assert counts == {"id": "p", "completions": 7, "scored": 6, "passed": 5, "cut_off": 2}
    assert [(k["index"], k["text"], k["reward"]) for k in row["kept"]] == [(1, "right", 1.2), (0, "long right", 1.0)]


def test_the_shortest_comes_first_and_the_number_is_kept():
    row = record_of(GROUP, CollectionTable(threshold=1.0, keep=1), seed=0)
    assert [k["text"] for k in row["kept"]] == ["right"]


def test_random_choice_is_a_function_of_the_seed_alone():
    group = scored(*((f"answer {i}", 4, 1.0, "eos") for i in range(8)))
    table = CollectionTable(threshold=1.0, keep=1, choose="random")

    def expected(seed: int) -> str:  # the smallest SHA-256 of [seed, "choose", prompt, index]
        drawn = [hashlib.sha256(json.dumps([seed, "choose", "p", i]).encode()).digest() for i in range(8)]
        return f"answer {drawn.index(min(drawn))}"

    found = [record_of(group, table, seed)["kept"][0]["text"] for seed in range(20)]
    assert found == [expected(seed) for seed in range(20)]
    assert len(set(found)) > 4


def test_examples_are_conversations_in_the_order_of_the_prompts():
    other = Prompt(id="q", messages=({"role": "user", "content": "2+2="},))
    rows = {
        "p": {"kept": [{"index": 0, "text": "2", "reward": 1.0}]},
        "q": {"kept": [{"index": 1, "text": "4", "reward": 1.0}, {"index": 0, "text": "four", "reward": 1.0}]},
    }
    found = list(examples_of([other, PROMPT], rows))
    assert [row["messages"][-1] for row in found] == [
        {"role": "assistant", "content": text} for text in ("4", "four", "2")
    ]
    assert found[2]["messages"][0] == {"role": "user", "content": "1+1="}


def test_examples_of_another_file_are_drawn_by_the_seed_and_stay_in_order(tmp_path):
    file = tmp_path / "mix.jsonl"
    file.write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]})
            + "\n"
            for i in range(9)
        )
    )
    whole = mixed_in(CollectionTable(mix=str(file)), seed=1)
    order = [row["messages"][0]["content"] for row in whole]
    assert sorted(order) == [f"q{i}" for i in range(9)]
    some = [
        [r["messages"][0]["content"] for r in mixed_in(CollectionTable(mix=str(file), mix_rows=4), s)] for s in (1, 2)
    ]
    assert [len(rows) for rows in some] == [4, 4]
    assert some[0] != some[1]
    assert some[0] == [q for q in order if q in some[0]]
    with pytest.raises(DataError, match=r"mix.jsonl has 9 examples, and rejection.mix_rows asks for 10"):
        mixed_in(CollectionTable(mix=str(file), mix_rows=10), 1)
    assert mixed_in(CollectionTable(), 1) == []
