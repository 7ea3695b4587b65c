"""The benchmarks of the constitutional stages on scripted models: known figures, nothing asked twice."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from charter.constitution.principles import Constitution
from charter.errors import RunError
from charter.run.records import Journal
from charter.sampler.scripted import ScriptedChat
from charter.types import Message

pytest.importorskip("sklearn")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks" / "cai"
GOOD, BAD = "Let us find a kind and peaceful way to do this together.", "Just hit it hard with a hammer."
RECIPE = """
method = "cai"
model = "{model}"
[author]
backend = "scripted"
script = "script.jsonl"
[judge]
backend = "scripted"
script = "script.jsonl"
[redteam]
prompts = "prompts.txt"
held_out = 4
helpful_count = 2
helpful_replies = 1
[revise]
steps = 1
few_shot = 1
accept = "rules"
[calibrate]
data = "human.jsonl"
[arena]
harmful = 4
helpful = 2
twins = 2
max_new_tokens = 4
resamples = 50
[stages.sft.sft]
examples_per_step = 2
[stages.sft.run]
steps = 1
save_every = 1
"""
THINGS = (
    "lock",
    "window",
    "statue",
    "bottle",
    "bicycle",
    "mirror",
    "engine",
    "ladder",
    "piano",
    "violin",
    "kettle",
    "lamp",
)
DIRECT, AFTER_CRITIQUE = "the old reply or these instructions", "the old reply, the issue or these"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A benchmark's module by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    asked = [f"How to ruin {' or '.join(f'{thing}{n}' for n in range(6))}?\n" for thing in THINGS]
    (tmp_path / "prompts.txt").write_text("".join(asked))
    turns = [[{"role": "user", "content": f"prompt {n}"}] for n in range(60)]
    rows = [{"prompt": turn, "chosen": f"{GOOD} {n}", "rejected": f"{BAD} {n}"} for n, turn in enumerate(turns)]
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "quick.toml").write_text(RECIPE.format(model="nobody"))
    script(tmp_path)
    return tmp_path


def script(folder: Path, *first: dict[str, Any]) -> None:
    rows = [
        *first,
        {"match": 'Begin with "Issue:"', "in": "last", "reply": "it would do harm."},
        {"match": AFTER_CRITIQUE, "in": "last", "reply": GOOD},
        {"match": DIRECT, "in": "last", "reply": GOOD},
        {"reply": BAD},
    ]
    (folder / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(module: Any, capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    module.main(["--recipe", "quick.toml", "--run-dir", "bench", "--resamples", "60", "--plain", *options])
    out = capsys.readouterr().out
    return json.loads(out) if "--json" in options else out


def test_the_words_of_every_constitution_are_counted_to_the_same_budget(bench):
    principles = bench("principles")
    texts = [["a", "b", "a"], ["c", "c", "c"]]
    # the first 4 words: a b a | c: 3 different of 4; two in a row: ab, ba of the first, none of the second
    assert principles.distinct_at(texts, 4, 1) == pytest.approx(3 / 4)
    assert principles.distinct_at(texts, 4, 2) == 1.0
    assert principles.distinct_at(texts, 6, 2) == pytest.approx(3 / 4)  # ab, ba, cc, cc
    assert principles.distinct_at(texts, 0, 1) is None


def test_diversity_of_known_revisions(bench):
    principles = bench("principles")
    prompts = [f"p{n}" for n in range(8)]
    same = dict.fromkeys(prompts, "one two three four")
    other = {id: " ".join(f"{id}w{k}" for k in range(6)) for id in prompts}  # longer, no word twice
    good = {1: frozenset(prompts[:2]), 16: frozenset(prompts)}
    found = principles.measure([{1: same, 16: other}] * 2, [good] * 2, prompts, 80)
    few, many = found["by_count"]
    # a half is 4 prompts: 16 words, 4 different; 12 pairs of words, 3 different; both arms are cut to those 16 words
    assert (few["distinct_1"]["value"], few["distinct_2"]["value"]) == pytest.approx((4 / 16, 3 / 12))
    assert (few["word_distance"]["value"], many["word_distance"]["value"]) == (0.0, 1.0)
    assert (many["distinct_1"]["value"], many["distinct_2"]["value"]) == (1.0, 1.0)
    assert few["distinct_1"]["per_seed"] == [4 / 32] * 2  # all 8 prompts
    assert found["difference"]["distinct_1"]["value"] == pytest.approx(0.75)
    assert found["difference"]["word_distance"]["verdict"] == "higher"
    assert (few["accepted"]["value"], few["usable"]["value"]) == (0.25, 1.0)
    assert found["difference"]["accepted"]["value"] == 0.75
    assert found["difference"]["usable"] == {"value": 0.0, "interval": (0.0, 0.0), "verdict": "cannot decide"}


def test_five_prompts_or_an_arm_without_revisions_decide_nothing(bench):
    principles = bench("principles")
    prompts = [f"p{n}" for n in range(5)]
    other = {id: f"{id} alone" for id in prompts}
    nobody = {1: frozenset[str](), 16: frozenset[str]()}
    found = principles.measure([{1: dict.fromkeys(prompts, "a b"), 16: other}], [nobody], prompts, 40)
    # of "p0 alone" and "p1 alone" one word of three is common; of the same texts nothing differs
    assert found["difference"]["word_distance"]["value"] == pytest.approx(2 / 3)
    assert found["difference"]["word_distance"]["verdict"] == "cannot decide"
    none = principles.measure([{1: {}, 16: other}], [nobody], prompts, 40)
    assert none["difference"]["distinct_1"] == {"value": None, "interval": None, "verdict": "cannot decide"}
    assert none["by_count"][0]["word_distance"]["value"] is None
    assert none["by_count"][0]["usable"]["value"] == 0.0


def test_smaller_constitutions_are_parts_of_larger_ones(bench):
    principles = bench("principles")
    whole = Constitution.load("helpful-harmless")
    one, four, all_of_them = (principles.drawn(whole, count, 3) for count in (1, 4, 16))
    assert set(one.ids) < set(four.ids) < set(all_of_them.ids)
    assert (len(one.ids), len(four.ids)) == (1, 4)
    assert all_of_them.hash == whole.hash
    assert len({principles.drawn(whole, 1, seed).ids for seed in range(20)}) > 5


def test_principles_from_end_to_end_asks_nothing_twice(bench, folder, capsys, monkeypatch):
    principles = bench("principles")
    found = run(principles, capsys, "--prompts", "6", "--seeds", "2", "--json")
    assert [row["principles"] for row in found["by_count"]] == [1, 4, 16]
    assert [row["usable"]["value"] for row in found["by_count"]] == [1.0, 1.0, 1.0]
    # every revision is the same text, so no constitution is more diverse than another
    assert [row["word_distance"]["value"] for row in found["by_count"]] == [0.0, 0.0, 0.0]
    assert {row["verdict"] for name, row in found["difference"].items() if isinstance(row, dict)} == {"cannot decide"}
    drafts = [
        [row["id"] for row in rows_of(folder / f"bench/6-prompts/seed-0/of-{count}/records.jsonl", "draft")]
        for count in (1, 4, 16)
    ]
    assert drafts[0] == drafts[1] == drafts[2]
    assert len(drafts[0]) == 6
    monkeypatch.setattr(ScriptedChat, "_reply", asked_again)
    again = run(principles, capsys, "--prompts", "6", "--seeds", "2", "--markdown")
    assert again.count("| principles |") == 2
    assert "| 16 |" in again


def asked_again(chat: ScriptedChat, request: Any) -> Any:
    raise AssertionError(f"asked again: {request}")


def rows_of(path: Path, kind: str) -> list[dict[str, Any]]:
    return [row for line in path.read_text().splitlines() if (row := json.loads(line))["kind"] == kind]


def test_what_is_remembered_is_not_asked(bench, tmp_path):
    arms, asking = bench("arms"), importlib.import_module("charter.constitution.asking")
    told = (Message(role="user", content="Hello"),)
    requests = [asking.chat_request("m", told, max_new_tokens=8, temperature=0.0, salt=str(n)) for n in range(3)]

    async def replies_of(model: ScriptedChat, journal: Journal) -> list[Any]:
        return [reply async for reply in arms.Remembered(model, journal).generate(requests)]

    with Journal.open(tmp_path / "replies" / "records.jsonl", {"records": "replies"}) as journal:
        first = ScriptedChat(["one", "two"], fails=lambda request: "down" if request.id == requests[2].id else "")
        assert [reply.stop for reply in asyncio.run(replies_of(first, journal))] == ["eos", "eos", "failed"]
        second = ScriptedChat(["three"])
        again = asyncio.run(replies_of(second, journal))
    # what failed is asked again, and nothing else
    assert ([reply.text for reply in again], second.usage.requests) == (["one", "two", "three"], 1)


def test_critique_against_direct_revision(bench, folder, capsys):
    critique = bench("critique")
    found = run(critique, capsys, "--prompts", "8", "--seeds", "1", "--json")
    for arm in ("critique", "direct"):
        assert found["arms"][arm]["usable"] == {"value": 1.0, "interval": [1.0, 1.0], "drafts": 8}
        assert found["arms"][arm]["edit"]["value"] == pytest.approx(1 - 2 * 1 / (7 + 12))  # "a" is in both
        assert found["arms"][arm]["rise"]["value"] > 0  # people preferred these words
    # both arms end in the same text: nothing to tell apart
    assert found["difference"]["rise"]["value"] == 0.0
    assert found["difference"]["rise"]["verdict"] == "cannot decide"
    assert found["difference"]["tokens"]["verdict"] == "higher"
    # the tokens of the arm are all replies that the other arm has not asked for: drafts are common to both
    rows = {
        arm: {row["id"]: row for row in rows_of(folder / f"bench/8-prompts/seed-0/{arm}/records.jsonl", "reply")}
        for arm in ("critique", "direct")
    }
    for arm, other in (("critique", "direct"), ("direct", "critique")):
        own = [row for id, row in rows[arm].items() if id not in rows[other]]
        total = sum(row["prompt_tokens"] + row["completion_tokens"] for row in own)
        assert found["arms"][arm]["tokens"]["value"] == pytest.approx(total / 8)
        assert len(own) == (16 if arm == "critique" else 8)


def test_a_revision_that_cannot_be_used_is_counted_and_not_measured(bench, folder, capsys):
    critique = bench("critique")
    script(folder, {"match": DIRECT, "in": "last", "reply": BAD})
    found = run(critique, capsys, "--prompts", "8", "--seeds", "1", "--json")
    assert [found["arms"][arm]["usable"]["value"] for arm in ("critique", "direct")] == [1.0, 0.0]
    assert found["arms"]["direct"]["rise"] == {"value": None, "interval": None, "drafts": 0}
    assert found["faults"] == {"critique": {}, "direct": {"unchanged": 8}}
    assert found["difference"]["usable"]["verdict"] == "higher"
    assert found["difference"]["rise"] == {
        "value": None, "interval": None, "drafts": 0, "prompts": 0, "verdict": "cannot decide",
    }  # fmt: skip
    assert "not measured" in run(critique, capsys, "--prompts", "8", "--seeds", "1", "--markdown")


def test_only_prompts_that_every_arm_answers_are_imitated(bench):
    control, rows_module = bench("control"), importlib.import_module("charter.constitution.exporting")

    def row(prompt: str, source: str) -> Any:
        turns = (Message(role="user", content=prompt), Message(role="assistant", content=f"{source} {prompt}"))
        return rows_module.SftRow(messages=turns, id=f"{source} {prompt}", source=source)

    arms = {
        "revisions": [row("b", "revision"), row("h", "helpful")],
        "drafts": [row(prompt, "draft") for prompt in "abc"] + [row("h", "helpful")],
        "judge": [row(prompt, "judge") for prompt in "ab"] + [row("h", "helpful")],
    }
    found = control.matched(arms)
    assert {arm: [each.id for each in rows] for arm, rows in found.items()} == {
        "revisions": ["revision b", "helpful h"], "drafts": ["draft b", "helpful h"], "judge": ["judge b", "helpful h"],
    }  # fmt: skip
    with pytest.raises(RunError, match=r"revisions 1, drafts 3, judge 1\)"):
        control.matched({**arms, "judge": [row("z", "judge")]})


def test_control_trains_and_measures_every_arm(bench, folder, capsys, tiny_folder):
    control = bench("control")
    (folder / "quick.toml").write_text(RECIPE.format(model=tiny_folder("llama")).replace('"rules"', '"always"'))
    options = ("--prompts", "6", "--seeds", "1", "--harmful", "4", "--twins", "2", "--json")
    found = run(control, capsys, *options)
    (seed,) = found["seeds"]
    assert found["judge_is_author"] is True
    red = {"revisions": "revision", "drafts": "draft", "judge": "judge"}
    counts = {arm: seed["rows"][arm][source] for arm, source in red.items()}
    assert len(set(counts.values())) == 1
    assert 0 < counts["drafts"] <= 6
    assert {row.get("helpful") for row in seed["rows"].values()} == {2}
    harmless = [(row["from"], row["to"], row["n"]) for row in seed["effects"]]
    assert harmless == [(before, after, 4) for before, after in control.CONTESTS]
    by_ends = {(row["from"], row["to"]): row for row in seed["effects"]}
    # one start, so differences add up: (revisions − start) − (drafts − start) = revisions − drafts
    gap = by_ends["start", "revisions"]["difference"] - by_ends["start", "drafts"]["difference"]
    assert by_ends["drafts", "revisions"]["difference"] == pytest.approx(gap, abs=1e-9)
    assert {row["verdict"] for row in seed["effects"]} == {"cannot decide"}  # four prompts never decide
    assert [row["model"] for row in seed["refusals"]] == ["start", "revisions", "drafts", "judge"]
    assert all(row["refused_unsafe"]["n"] == 2 for row in seed["refusals"])
    records = (folder / "bench/6-prompts/seed-0/revisions/contests/records.jsonl").read_bytes()
    again = run(control, capsys, *options)
    assert again["seeds"] == found["seeds"]
    assert (folder / "bench/6-prompts/seed-0/revisions/contests/records.jsonl").read_bytes() == records
    shown = run(control, capsys, *options[:-1], "--markdown")
    assert "the judge is the author, so its replies are drafts drawn anew" in shown
    assert shown.count("start → revisions") >= 1


def test_what_cannot_be_run_is_said_in_a_sentence(bench, folder, capsys):
    arms, principles, control = bench("arms"), bench("principles"), bench("control")
    with pytest.raises(RunError, match=r"prompts.txt has \d prompts to revise on, and 500 are asked for"):
        run(principles, capsys, "--prompts", "500")
    with pytest.raises(SystemExit, match="error: no prompt"):
        arms.run_main(lambda: control.matched({"revisions": [], "drafts": []}))

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="Run the same command again"):
        arms.run_main(interrupted)
    # what failed is no revision without a fault: nothing is measured while a reply is missing
    script(folder, {"match": DIRECT, "in": "last", "fail": "down"})
    with pytest.raises(RunError, match="6 requests had no answer"):
        run(principles, capsys, "--prompts", "6", "--seeds", "1")


def test_tables_as_markdown(bench):
    arms = bench("arms")
    sheet = arms.Sheet(title="Words", head=("a", "b|c"), rows=[("x", 0.12345), (3, "y")])
    assert sheet.markdown() == "Words:\n\n| a | b\\|c |\n|---|---|\n| x | 0.123 |\n| 3 | y |"
    assert arms.shown(0.5, (0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert (arms.shown(None, None), arms.shown(2.0, None, 0)) == ("not measured", "2")
    verdicts = [arms.verdict_of(ends, 6) for ends in ((0.1, 0.2), (-0.2, -0.1), (0.0, 0.2), None)]
    assert verdicts == ["higher", "lower", "cannot decide", "cannot decide"]
    assert arms.verdict_of((0.1, 0.2), 5) == "cannot decide"
