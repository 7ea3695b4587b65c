"""The supervised stage with a scripted author: each draft's life by value, faults, acceptance, rows, the funnel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.constitution.acceptance import NO_ANSWER, NO_OPINION
from charter.constitution.exporting import chosen_steps, jsonl_bytes, parquet_bytes
from charter.constitution.feedback import Match
from charter.constitution.principles import Constitution, Principle
from charter.constitution.records import Preference
from charter.constitution.redteam import PromptSets, PromptSplit, make_prompt
from charter.constitution.supervised import Supervised, supervise
from charter.constitution.trajectories import acceptances, trajectories
from charter.errors import BudgetError, UsageError
from charter.recipe.cai import RedteamTable, ReviseTable
from charter.run.records import Journal, read_records
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatRequest, Message, Prompt

KIND = Principle(id="kind", text="Be kind.", critique="Is it kind?", revision="Make it kind.")
TRUE = Principle(id="true", text="Be true.", critique="Is it true?", revision="Make it true.")
TWO = Constitution(name="two", principles=(KIND, TRUE))


def ask(text: str) -> Prompt:
    return make_prompt([Message(role="user", content=text)], "test")


def sets(texts: Sequence[str], helpful: Sequence[str] = ()) -> PromptSets:
    split = PromptSplit(train=tuple(ask(text) for text in texts), held_out=())
    return PromptSets(
        redteam=split, helpful=PromptSplit(train=tuple(ask(text) for text in helpful), held_out=()), read=len(texts)
    )


def alternate(_: str, step: int) -> Principle:
    return KIND if step % 2 else TRUE


def told(request: ChatRequest) -> tuple[str, str]:
    """What a request asks for, and the reply it is about: the lines after "Reply:" up to the empty one."""
    last = request.messages[-1]["content"]
    if last.startswith("Read this"):
        kind = "critique" if "No issue:" in last else "direct"
    elif last.startswith("Make it"):
        kind, last = "revision", request.messages[-3]["content"]
    else:
        return "draft", last
    return kind, last.split("Reply:\n")[1].split("\n\n")[0]


def author(script: Callable[[str, str, ChatRequest], str | None], name: str = "author") -> ScriptedChat:
    return ScriptedChat(lambda request: script(*told(request), request), name=name)


def plain(kind: str, text: str, request: ChatRequest) -> str | None:
    """A draft "d <prompt>", always criticised, revised to "<reply>!0" … each longer by a word."""
    if kind == "draft":
        return f"d {text}"
    return "Issue: bad." if kind == "critique" else f"{text} more"


def run(
    folder: Path,
    model: ScriptedChat,
    texts: Sequence[str] = ("lock",),
    helpful: Sequence[str] = (),
    *,
    table: dict[str, Any] | None = None,
    tokens: int = 64,
    **keys: Any,
) -> Supervised:
    stated = {"accept": "always", "steps": 2, "max_new_tokens": tokens, "few_shot": 0, **(table or {})}
    with Journal.open(folder / "records.jsonl", {"test": 1}) as journal:
        return asyncio.run(
            supervise(
                sets(texts, helpful), author=model, constitution=TWO, journal=journal,
                redteam=RedteamTable(max_new_tokens=tokens, helpful_replies=keys.pop("helpful_replies", 2)),
                settings=ReviseTable.model_validate(stated), seed=0, draw=alternate, **keys,
            )
        )  # fmt: skip


def rows(done: Supervised) -> list[tuple[str, str]]:
    return [(row.source, row.messages[-1]["content"]) for row in done.sft.rows]


def stage(done: Supervised, name: str) -> dict[str, Any]:
    return next(one for one in done.funnel["stages"] if one["name"] == name)


def test_a_draft_is_criticised_and_revised_step_by_step(tmp_path: Path) -> None:
    done = run(tmp_path, author(plain))
    (life,) = done.revised.trajectories
    assert life.draft.text == "d lock"
    assert [(c.principle, c.verdict, r.text, r.step) for c, r in life.steps if c and r] == [
        ("kind", "issue", "d lock more", 1),
        ("true", "issue", "d lock more more", 2),
    ]
    (first, one), (second, two) = life.steps
    assert first
    assert one
    assert second
    assert two
    assert (first.target, one.parent, one.critique) == (life.draft.id, life.draft.id, first.id)
    assert (second.target, two.parent, two.draft) == (one.id, one.id, life.draft.id)
    assert rows(done) == [("revision", "d lock more"), ("revision", "d lock more more")]
    assert done.sft.rows[0].messages == (
        {"role": "user", "content": "lock"},
        {"role": "assistant", "content": "d lock more"},
    )
    assert done.sft.rows[0].id == one.id
    assert done.lost == 0


def test_everything_of_a_stage_is_asked_in_one_call_and_nothing_twice(tmp_path: Path) -> None:
    calls: list[int] = []

    class Counting(ScriptedChat):
        def generate(self, requests: Sequence[ChatRequest]) -> Any:
            calls.append(len(requests))
            return super().generate(requests)

    def make() -> Counting:
        return Counting(lambda request: plain(*told(request), request), name="author")

    texts = [f"p{i}" for i in range(7)]
    first = run(tmp_path, make(), texts, ["hello"])
    assert calls == [7 + 2, 7, 7, 7, 7]  # drafts with two helpful replies; critiques and revisions of two steps
    calls.clear()
    again = run(tmp_path, make(), texts, ["hello"])
    assert calls == []
    assert again == first


def test_where_nothing_is_wrong_the_reply_is_carried_on(tmp_path: Path) -> None:
    def script(kind: str, text: str, request: ChatRequest) -> str:
        return "No issue: fine." if "kind?" in request.messages[-1]["content"] else str(plain(kind, text, request))

    done = run(tmp_path, author(script))
    (life,) = done.revised.trajectories
    assert [(step.principle, step.revision is None) for step in life.steps] == [("kind", True), ("true", False)]
    assert life.revisions[0].parent == life.draft.id
    assert stage(done, "critiques") == {"name": "critiques", "in": 2, "out": 1, "dropped": {"nothing wrong": 1}}


@pytest.mark.parametrize(("critique", "revised"), [("Hm.", 2), ("", 0)])
def test_a_critique_that_cannot_be_read_is_revised_by_unless_it_is_empty(
    tmp_path: Path, critique: str, revised: int
) -> None:
    done = run(
        tmp_path, author(lambda kind, text, r: critique if kind == "critique" else plain(kind, text, r))
    )  # fmt: skip
    (life,) = done.revised.trajectories
    assert [c.verdict for c, _ in life.steps if c] == ["unparsed", "unparsed"] if critique else ["unparsed"]
    assert len(life.revisions) == revised
    assert sum(row["unparsed"] for row in done.funnel["principles"]) == 2


def test_direct_revision_asks_for_no_critique(tmp_path: Path) -> None:
    done = run(tmp_path, author(plain), table={"critique": False})
    (life,) = done.revised.trajectories
    assert [(c, r.text) for c, r in life.steps if r] == [(None, "d lock more"), (None, "d lock more more")]
    assert [one["name"] for one in done.funnel["stages"]] == [
        "prompts", "drafts", "revisions", "acceptance", "examples", "helpful",
    ]  # fmt: skip


FAULTY = {
    "As an AI reviewing this, no.": "meta_text",
    "": "empty",
    "  D LOCK! ": "unchanged",
    "one two three four five six": "truncated",
}


@pytest.mark.parametrize(("text", "fault"), FAULTY.items())
def test_a_faulty_revision_is_recorded_and_not_carried_on(tmp_path: Path, text: str, fault: str) -> None:
    def script(kind: str, reply: str, request: ChatRequest) -> str:
        if kind == "revision":
            return text if "kind" in request.messages[-1]["content"] else "Call a locksmith."
        return str(plain(kind, reply, request))

    done = run(tmp_path, author(script), tokens=5)
    (life,) = done.revised.trajectories
    bad, good = life.revisions
    assert (bad.fault, good.fault) == (fault, "")
    assert good.parent == life.draft.id
    assert rows(done) == [("revision", "Call a locksmith.")]
    assert done.revised.faults == {"kind": {fault: 1}}
    assert stage(done, "revisions") == {"name": "revisions", "in": 2, "out": 1, "dropped": {fault: 1}}
    assert bad.id not in done.acceptances


@pytest.mark.parametrize(
    ("cut", "expected"), [("trim", "One two."), ("keep", "One two. three four five"), ("drop", None)]
)
def test_a_reply_at_the_token_limit(tmp_path: Path, cut: str, expected: str | None) -> None:
    def script(kind: str, reply: str, request: ChatRequest) -> str:
        return str(plain(kind, reply, request)) if kind in ("draft", "critique") else "One two. three four five six"

    done = run(tmp_path, author(script), table={"cut": cut, "steps": 1}, tokens=5)
    assert rows(done) == ([("revision", expected)] if expected else [])
    assert done.revised.trimmed == (cut == "trim")


def test_a_label_in_front_of_a_revision_is_taken_off_and_counted(tmp_path: Path) -> None:
    def script(kind: str, reply: str, request: ChatRequest) -> str:
        return "Revised reply: Call a locksmith." if kind == "revision" else str(plain(kind, reply, request))

    done = run(tmp_path, author(script), table={"steps": 1})
    assert rows(done) == [("revision", "Call a locksmith.")]
    assert done.funnel["labels_stripped"] == 1


def test_a_conversation_of_several_turns_is_kept_whole(tmp_path: Path) -> None:
    turns = [Message(role=r, content=c) for r, c in (("user", "Hi"), ("assistant", "Hello"), ("user", "lock"))]
    seen: list[str] = []

    def script(request: ChatRequest) -> str:
        kind, text = told(request)
        if kind == "critique":
            seen.append(request.messages[-1]["content"])
        return str(plain(kind, text, request))

    prompts = PromptSets(
        redteam=PromptSplit(train=(make_prompt(turns, "t"),), held_out=()),
        helpful=PromptSplit(train=(), held_out=()), read=1,
    )  # fmt: skip
    with Journal.open(tmp_path / "records.jsonl", {}) as journal:
        done = asyncio.run(
            supervise(
                prompts, author=ScriptedChat(script, name="a"), constitution=TWO, journal=journal,
                redteam=RedteamTable(), settings=ReviseTable(accept="always", steps=1), seed=0, draw=alternate,
            )
        )  # fmt: skip
    assert "User: Hi\nAssistant: Hello\nUser: lock\n\nReply:\nd lock\n" in seen[0]
    assert [m["content"] for m in done.sft.rows[0].messages] == ["Hi", "Hello", "lock", "d lock more"]


def test_a_request_that_fails_is_no_record_and_is_asked_again(tmp_path: Path) -> None:
    broken = {"on": True}

    def script(kind: str, text: str, request: ChatRequest) -> str | None:
        if broken["on"] and (kind, text) in {("draft", "p0"), ("critique", "d p1"), ("revision", "d p2")}:
            return None
        return plain(kind, text, request)

    texts = ["p0", "p1", "p2", "p3"]
    done = run(tmp_path, author(script), texts)
    assert done.lost == 3
    assert [one.stage for one in (*done.drafts.lost, *done.revised.lost)] == ["redteam", "critique", "revision"]
    assert [text for _, text in rows(done)] == ["d p3 more", "d p3 more more"]
    assert stage(done, "drafts") == {"name": "drafts", "in": 4, "out": 3, "dropped": {"failed": 1}}
    # step 1: three critiques, one failed; step 2: p3's alone
    assert stage(done, "critiques") == {"name": "critiques", "in": 4, "out": 3, "dropped": {"failed": 1}}
    assert stage(done, "revisions") == {"name": "revisions", "in": 3, "out": 2, "dropped": {"failed": 1}}
    assert sum(row["drawn"] for row in done.funnel["principles"]) == 4
    kinds = [row["kind"] for row in read_records(tmp_path / "records.jsonl")]
    assert (kinds.count("draft"), kinds.count("critique"), kinds.count("revision")) == (3, 3, 2)
    broken["on"] = False
    mended = run(tmp_path, author(script), texts)
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", author(plain), texts)
    assert (mended.lost, mended.sft, mended.funnel) == (0, whole.sft, whole.funnel)


def test_a_spent_budget_leaves_what_was_answered(tmp_path: Path) -> None:
    def model(most: int | None) -> ScriptedChat:
        return ScriptedChat(lambda request: plain(*told(request), request), name="author", most=most)

    texts = ["p0", "p1", "p2"]
    with pytest.raises(BudgetError):
        run(tmp_path, model(7), texts)
    rest = model(None)
    done = run(tmp_path, rest, texts)
    assert rest.usage.requests == 3 + 4 * 3 - 7
    assert len(done.sft.rows) == 6


# --- acceptance -------------------------------------------------------------------------------------------------


def judged(p: Callable[[Match], float | None]) -> Any:
    async def prefer(matches: Sequence[Match]) -> list[Preference | None]:
        found: list[Preference | None] = []
        for match in matches:
            value = p(match)
            told = Preference(a=match.a_id, b=match.b_id, p_a=value, position_gap=0.0, members=("m",))
            found.append(None if value == -1 else told)
        return found

    return prefer


def test_a_judge_accepts_what_it_prefers_by_more_than_the_margin(tmp_path: Path) -> None:
    asked: list[Match] = []
    values = iter([0.6, 0.61, None, -1])

    def p(match: Match) -> float | None:
        asked.append(match)
        return next(values)

    done = run(tmp_path, author(plain), ["p0", "p1"], table={"accept": "judge", "margin": 0.1}, prefer=judged(p))
    # 0.6 is not more than 0.5 + 0.1
    assert [(one.accepted, one.p) for one in done.acceptances.values()] == [
        (False, 0.6), (True, 0.61), (False, None), (False, None),
    ]  # fmt: skip
    reasons = [one.reason for one in done.acceptances.values()]
    assert reasons == ["p = 0.600, more than 0.600 is asked", "", NO_OPINION, NO_ANSWER]
    assert [(one.a, one.b, one.principle) for one in asked[:2]] == [
        ("d p0 more", "d p0", "kind"), ("d p0 more more", "d p0", "true"),
    ]  # fmt: skip
    assert rows(done) == [("revision", "d p0 more more")]
    assert stage(done, "acceptance") == {
        "name": "acceptance", "in": 4, "out": 1, "dropped": {"not better than the draft": 1, "no opinion": 2},
    }  # fmt: skip
    stored = acceptances(read_records(tmp_path / "records.jsonl"))
    # what the judge failed to answer is not recorded; everything else is, rejected ones too
    assert stored == {id: one for id, one in done.acceptances.items() if one.reason != NO_ANSWER}
    assert all(one.preference for one in stored.values())


@dataclass(frozen=True)
class Value:
    value: float | None


@pytest.mark.parametrize(
    ("shares", "p", "why"),
    [
        ({"kind": (0.5, 0.8), "two": (0.5, 0.7)}, 1.0, ""),
        ({"kind": (0.5, 0.6), "two": (0.5, 0.7)}, 0.0, "checks of principle 'kind': 0.500 → 0.600"),
        ({"kind": (0.5, 0.8), "two": (0.5, 0.5)}, 0.0, "checks of the whole constitution: 0.500 → 0.500"),
        ({"kind": (None, 1.0), "two": (0.5, 1.0)}, None, "no check of principle 'kind'"),
        ({"kind": (0.0, 1.0), "two": (0.0, None)}, None, "no check of the whole constitution"),
    ],
)
def test_rules_accept_where_both_shares_rise_by_more_than_the_margin(
    tmp_path: Path, shares: dict[str, tuple[float | None, float | None]], p: float | None, why: str
) -> None:
    def score(scope: Principle | Constitution, messages: Sequence[Message], reply: str) -> Value:
        name = scope.id if isinstance(scope, Principle) else scope.name
        assert messages[-1]["content"] == "lock"
        return Value(shares[name][reply != "d lock"])

    table = {"accept": "rules", "margin": 0.1, "steps": 1}
    done = run(tmp_path, author(plain), table=table, score=score)
    (one,) = done.acceptances.values()
    assert (one.p, one.accepted, one.by) == (p, p == 1.0, "rules")
    assert one.reason.startswith(why)
    assert bool(one.reason) == bool(why)
    assert len(done.sft.rows) == (p == 1.0)


@pytest.mark.parametrize(
    "table", [{"accept": "judge"}, {"accept": "rules"}, {"control": "judge"}, {"sft_on": "upto:0"}]
)
def test_a_part_that_is_not_there_is_an_error(tmp_path: Path, table: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run(tmp_path, author(plain), table=table)


# --- rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sft_on", "texts"),
    [
        ("all", ["d lock more", "d lock more more", "d lock more more more"]),
        ("upto:2", ["d lock more", "d lock more more"]),
        ("final", ["d lock more more more"]),
    ],
)
def test_which_revisions_are_imitated(tmp_path: Path, sft_on: str, texts: list[str]) -> None:
    done = run(tmp_path, author(plain), table={"sft_on": sft_on, "steps": 3})
    assert [text for _, text in rows(done)] == texts
    left = 3 - len(texts)
    assert stage(done, "examples")["dropped"] == ({f"not {sft_on}": left} if left else {})


def test_final_is_the_last_that_was_accepted(tmp_path: Path) -> None:
    values = {"d lock more": 0.9, "d lock more more": 0.2}
    table = {"accept": "judge", "sft_on": "final"}
    done = run(tmp_path, author(plain), table=table, prefer=judged(lambda match: values[match.a]))
    assert rows(done) == [("revision", "d lock more")]


@pytest.mark.parametrize("text", ["", "upto:", "upto:0", "upto:-1", "ALL", "upto:1.5", "last"])
def test_what_else_sft_on_says_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r'expected "all", "final" or "upto:n"'):
        chosen_steps(text)


def test_helpful_replies_are_mixed_in_unrevised_and_cut_texts_trimmed(tmp_path: Path) -> None:
    turns = iter(["Paris it is.", "Paris. It is the big", "no end here at all no", "Paris it is."])

    def script(kind: str, text: str, request: ChatRequest) -> str | None:
        return next(turns) if "capital" in text or text == "2 + 2" else plain(kind, text, request)

    done = run(tmp_path, author(script), ["lock"], ["capital?", "2 + 2"], table={"steps": 1}, tokens=4)
    assert rows(done) == [
        ("revision", "d lock more"), ("helpful", "Paris it is."), ("helpful", "Paris."), ("helpful", "Paris it is."),
    ]  # fmt: skip
    assert stage(done, "helpful") == {"name": "helpful", "in": 4, "out": 3, "dropped": {"truncated": 1}}
    assert [reply.draft.index for reply in done.drafts.helpful] == [0, 1, 0, 1]


@pytest.mark.parametrize("control", ["draft", "judge"])
def test_controls_imitate_what_nobody_revised(tmp_path: Path, control: str) -> None:
    judge = ScriptedChat(lambda request: "judge says no", name="judge")
    model = author(plain)
    done = run(tmp_path, model, ["a", "b"], ["hi"], table={"control": control}, judge=judge)
    own = {"draft": ["d a", "d b"], "judge": ["judge says no"] * 2}[control]
    assert rows(done) == [*((control, text) for text in own), ("helpful", "d hi")]  # the second "d hi" is a repeat
    assert model.usage.requests == {"draft": 4, "judge": 2}[control]
    assert stage(done, "helpful")["dropped"] == {"repeated": 1}
    assert [one["name"] for one in done.funnel["stages"]] == ["prompts", "drafts", "examples", "helpful"]


def test_rows_are_read_by_our_own_loader_and_as_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from charter.data import load_examples
    from charter.recipe import DataTable

    done = run(tmp_path, author(plain), ["p0", "hört \ud800 „x“\u2028"])
    file, table = tmp_path / "sft.jsonl", tmp_path / "sft.parquet"
    file.write_bytes(jsonl_bytes(row.row() for row in done.sft.rows))
    table.write_bytes(parquet_bytes(done.sft.rows))
    loaded = load_examples(DataTable(examples=str(file)), seed=0)
    assert [example.id for example in loaded.train.items] == [row.id for row in done.sft.rows]
    assert loaded.train.items[0].messages == done.sft.rows[0].messages
    assert loaded.train.items[2].messages[0]["content"] == "hört � „x“\u2028"
    assert pq.read_table(table).to_pylist() == [
        json.loads(line) for line in file.read_text("utf-8").split("\n") if line
    ]
    again = load_examples(DataTable(examples=str(table)), seed=0)
    assert [example.messages for example in again.train.items] == [e.messages for e in loaded.train.items]


# --- views ------------------------------------------------------------------------------------------------------


def test_the_funnel_per_principle(tmp_path: Path) -> None:
    done = run(tmp_path, author(plain), ["p0", "p1"])
    kind, true = done.funnel["principles"]
    # "d p0" → "d p0 more": ratio 2·2/(2+3) = 0.8; "d p0 more" → "… more more": 2·3/(3+4) = 6/7
    assert kind == {
        "id": "kind", "drawn": 2, "issues": 2, "unparsed": 0, "revised": 2, "accepted": 2,
        "edit": pytest.approx(0.2), "faults": {},
    }  # fmt: skip
    assert true["edit"] == pytest.approx(1 / 7)


WORDS = st.sampled_from(
    [
        "Issue: bad.",
        "No issue: fine.",
        "Hm.",
        "",
        "As an AI reviewing, no.",
        "New text one.",
        "New text two.",
        "Cut off at",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), WORDS), min_size=1, max_size=12), st.integers(1, 4), st.booleans(),
    st.sampled_from(["all", "final", "upto:1", "upto:2"]),
)  # fmt: skip
def test_nothing_is_lost_without_a_reason_and_the_records_tell_the_same_story(
    tmp_path_factory: pytest.TempPathFactory, said: list[str | None], steps: int, critique: bool, sft_on: str
) -> None:
    folder = tmp_path_factory.mktemp("run")

    def script(request: ChatRequest) -> str | None:
        return said[int(request.id, 16) % len(said)]

    done = run(
        folder, ScriptedChat(script, name="a"), ["p0", "p1", "p2"], ["h"],
        table={"steps": steps, "critique": critique, "sft_on": sft_on}, tokens=3,
    )  # fmt: skip
    stages = {one["name"]: one for one in done.funnel["stages"]}
    for one in stages.values():
        assert one["in"] == one["out"] + sum(one["dropped"].values()), one
    assert stages["prompts"]["out"] == stages["drafts"]["in"] == 3
    assert stages["drafts"]["out"] == len(done.revised.trajectories)
    if critique:
        assert stages["critiques"]["out"] == stages["revisions"]["in"]
    assert stages["revisions"]["out"] == stages["acceptance"]["in"]
    assert stages["acceptance"]["out"] == stages["examples"]["in"]
    assert stages["examples"]["out"] == sum(row.source == "revision" for row in done.sft.rows)
    assert stages["helpful"]["out"] == sum(row.source == "helpful" for row in done.sft.rows)
    first = stages["critiques" if critique else "revisions"]["in"]
    assert sum(row["drawn"] for row in done.funnel["principles"]) == first
    rebuilt = trajectories(read_records(folder / "records.jsonl"))
    for made, again in zip(done.revised.trajectories, rebuilt, strict=True):
        assert (again.draft, again.revisions) == (made.draft, made.revisions)
        # a critique said twice of one reply is one record, so of equal steps without a revision one is left
        assert done.lost or list(dict.fromkeys(made.steps)) == list(again.steps)


def test_an_issue_can_be_taken_as_given(tmp_path: Path) -> None:
    """Every critique begins with the fault, so that no reply is left as it is, whatever the model would have said."""
    begun: list[str] = []

    def script(kind: str, text: str, request: ChatRequest) -> str:
        begun.append(f"{kind} {request.begin}".strip())
        if kind == "draft":
            return f"d {text}"
        return "none that I see." if kind == "critique" else f"{text} more"

    done = run(tmp_path, author(script), table={"assume_issue": True, "steps": 1})
    (life,) = done.revised.trajectories
    ((critique, revision),) = life.steps
    assert begun == ["draft", "critique Issue:", "revision"]
    assert critique
    assert (critique.text, critique.verdict) == ("Issue: none that I see.", "issue")
    assert revision
    assert revision.text == "d lock more"


def test_an_author_that_cannot_be_made_to_begin_says_so(tmp_path: Path) -> None:
    class Plain(ScriptedChat):
        @property
        def capabilities(self) -> frozenset[str]:
            return frozenset({"generate"})

    model = Plain(lambda request: plain(*told(request), request), name="author")
    with pytest.raises(UsageError, match=r"revise\.assume_issue = true begins every critique"):
        run(tmp_path, model, table={"assume_issue": True})
