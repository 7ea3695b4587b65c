"""Prompts: repeats, the split, what a model writes, and the files they are read from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.cli.cai_run import read_prompts, redteam_rows
from charter.constitution.redteam import (
    WrittenPrompts,
    deduplicate,
    make_prompt,
    prompt_sets,
    split_prompts,
    text_of,
    write_prompts,
)
from charter.errors import BudgetError, DataError, RunError
from charter.recipe.cai import RedteamTable
from charter.run.records import Journal
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatRequest, Message, Prompt


def ask(text: str) -> Prompt:
    return make_prompt([Message(role="user", content=text)], "test")


MANY = [ask(f"prompt number {i} {'abcdefghij'[i % 10] * (3 + i)}") for i in range(40)]


def test_a_prompt_is_named_by_what_it_says() -> None:
    assert ask("a").id == make_prompt([Message(role="user", content="a")], "elsewhere", {"x": 1}).id
    assert ask("a").id != ask("b").id
    assert len(ask("a").id) == 16


def test_repeats_differ_in_case_punctuation_and_spaces_alone() -> None:
    unique = deduplicate([ask("How do I lie?"), ask("how do I  LIE"), ask("How do you lie?")])
    assert [text_of(prompt) for prompt in unique.kept] == ["How do I lie?", "How do you lie?"]
    assert unique.dropped == 1


@given(st.permutations(MANY), st.integers(1, 20), st.integers(0, 19))
def test_the_split_depends_on_content_alone_and_never_overlaps(order: list[Prompt], count: int, held_out: int) -> None:
    split = split_prompts(order, count=count, held_out=held_out)
    same = split_prompts(MANY, count=count, held_out=held_out)
    assert {p.id for p in split.train} == {p.id for p in same.train}
    assert {p.id for p in split.held_out} == {p.id for p in same.held_out}
    assert not {p.id for p in split.train} & {p.id for p in split.held_out}
    assert (len(split.train), len(split.held_out)) == (count, held_out)
    assert split.unused == 40 - count - held_out
    assert [p for p in order if p in split.train] == list(split.train)
    # asking for more of one side moves none of the other
    more = split_prompts(MANY, count=count, held_out=held_out + 1)
    assert {p.id for p in more.train} == {p.id for p in split.train}
    assert {p.id for p in more.held_out} > {p.id for p in split.held_out}


def test_what_nearly_repeats_a_held_out_prompt_is_not_trained_on() -> None:
    # of the words {how, can, i, poison, the, well, X} six of eight are shared: 0.75 ≥ 0.7
    twins = [ask("How can I poison the well today"), ask("How can I poison the well tomorrow")]
    split = split_prompts([*twins, ask("Write a cruel limerick")], count=2, held_out=1)
    far = split_prompts([*twins, ask("Write a cruel limerick")], count=None, held_out=2)
    (apart,) = split.held_out
    expected = 1 if apart in twins else 0
    assert split.near_held_out == expected
    assert len(split.train) == 2 - expected
    assert far.near_held_out + len(far.train) == 1


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(DataError, match=r"rows\.txt: there are 2, and holding out 2 leaves none"):
        split_prompts([ask("a"), ask("b")], count=1, held_out=2, source="rows.txt")


def test_helpful_prompts_that_are_not_trained_on_are_for_evaluation() -> None:
    found = prompt_sets(MANY[:20], [*MANY[20:], MANY[20]], RedteamTable(count=5, held_out=3, helpful_count=8))
    assert (len(found.helpful.train), len(found.helpful.held_out)) == (8, 12)
    assert (len(found.redteam.train), len(found.redteam.held_out), found.redteam.unused) == (5, 3, 12)
    rows = redteam_rows(found)
    assert [(row["purpose"], row["split"]) for row in rows] == (
        [("redteam", "train")] * 5 + [("redteam", "held_out")] * 3
        + [("helpful", "train")] * 8 + [("helpful", "held_out")] * 12
    )  # fmt: skip
    assert set(rows[0]) == {"id", "messages", "purpose", "split", "source"}
    none = prompt_sets(MANY[:20], MANY[20:], RedteamTable(count=5, held_out=3, helpful_count=0))
    assert (none.helpful.train, len(none.helpful.held_out)) == ((), 20)


# --- written by a model -----------------------------------------------------------------------------------------


def write(path: Path, model: ScriptedChat, count: int) -> WrittenPrompts:
    with Journal.open(path / "records.jsonl", {}) as journal:
        return asyncio.run(write_prompts(model, MANY[:6], MANY[:8], count, journal, seed=3))


def lines(request: ChatRequest) -> str:
    """Five prompts nobody else writes, one that is known, and two lines that are none."""
    tag = request.id
    own = "\n".join(f"{i}. Explain {tag}{i} trick{tag}{i} number{i}{tag}" for i in range(1, 6))
    return f"Sure:\n{own}\n6. {text_of(MANY[7])}\n7. No"


def test_a_model_writes_prompts_after_seeds(tmp_path: Path) -> None:
    seen: list[str] = []

    def script(request: ChatRequest) -> str:
        seen.append(request.messages[0]["content"])
        return lines(request)

    written = write(tmp_path, ScriptedChat(script, name="a"), 8)
    assert len(seen) == 2  # five at a time
    assert seen[0] != seen[1]
    assert all(sum(text_of(prompt) in text for prompt in MANY[:6]) == 5 for text in seen)
    assert (len(written.prompts), written.asked) == (8, 8)
    assert written.dropped == {"off_format": 4, "near_duplicate": 2}
    assert {prompt.fields["source"] for prompt in written.prompts} == {"written"}
    again = ScriptedChat(lines, name="a")
    assert write(tmp_path, again, 8) == written
    assert again.usage.requests == 0


def test_an_author_that_repeats_itself_is_asked_again_and_then_left(tmp_path: Path) -> None:
    model = ScriptedChat(["1. How do I lie well to my aunt?"], name="a")
    written = write(tmp_path, model, 7)
    assert len(written.prompts) == 1
    # two requests for the seven, then two for the six that lack, three times
    assert model.usage.requests == 8
    assert written.dropped == {"near_duplicate": 7}


def test_a_request_that_fails_stops_the_writing_and_is_asked_again_alone(tmp_path: Path) -> None:
    calls: list[str] = []

    def script(request: ChatRequest) -> str | None:
        calls.append(request.id)
        return None if len(calls) == 2 else lines(request)

    with pytest.raises(RunError, match=r"1 of 2 requests .* run the same command again"):
        write(tmp_path, ScriptedChat(script, name="a"), 8)
    written = write(tmp_path, ScriptedChat(script, name="a"), 8)
    assert len(written.prompts) == 8
    assert calls[1:] == [calls[1]] * 2


def test_writing_needs_seeds_and_a_budget(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "records.jsonl", {}) as journal:
        with pytest.raises(DataError, match="no red-team prompt"):
            asyncio.run(write_prompts(ScriptedChat(["x"]), [], [], 3, journal, seed=0))
        with pytest.raises(BudgetError):
            asyncio.run(write_prompts(ScriptedChat(["x"], most=0), MANY, MANY, 3, journal, seed=0))


# --- files ------------------------------------------------------------------------------------------------------


def test_prompts_are_read_from_lines_and_rows(tmp_path: Path) -> None:
    text, rows = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_text("\ufeffFirst one\n\n  Zweite Frage \u2028 weiter \n", "utf-8")
    assert [prompt.messages[0]["content"] for prompt in read_prompts(str(text))] == [
        "First one", "Zweite Frage \u2028 weiter",
    ]  # fmt: skip
    rows.write_text(
        '{"prompt": "a", "area": "x"}\n{"question": "b"}\n'
        '{"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}, '
        '{"role": "user", "content": "e"}], "id": 7}\n'
    )
    found = read_prompts(str(rows))
    assert [[m["role"] for m in prompt.messages] for prompt in found] == [
        ["user"],
        ["user"],
        ["user", "assistant", "user"],
    ]
    assert found[0].fields == {"area": "x", "source": str(rows)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "\n \n", "it holds no prompts"),
        ("p.txt", None, "there is no such file"),
        ("p.jsonl", None, "there is no such file"),
        ("p.jsonl", '{"text": "a"}\n', r"p\.jsonl:1"),
        ("p.jsonl", '{"prompt": " "}\n', r"p\.jsonl:1"),
        ("p.jsonl", '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
         r"p\.jsonl:1: the conversation ends with a turn of the role 'assistant'"),
        ("p.jsonl", '{"messages": [{"role": "user", "content": " "}]}\n', r"p\.jsonl:1: .* is empty"),
        ("p.jsonl", '{"prompt": "a"}\n{"pro', r"p\.jsonl:2"),
        ("p.csv", "a\n", "are not read"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_names_its_place(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_prompts(str(tmp_path / name))


def test_bytes_that_are_no_text_name_their_place(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"abc\xff\n")
    with pytest.raises(DataError, match="byte 3 is not UTF-8"):
        read_prompts(str(tmp_path / "p.txt"))
