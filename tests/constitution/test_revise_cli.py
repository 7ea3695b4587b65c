"""`charter redteam`, `revise` and `trace` on a scripted author and judge: what is printed, written and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from charter.cli.app import app
from charter.cli.stage_lines import StageLines
from charter.cli.supervising import render_funnel
from charter.cli.trace import word_diff
from charter.constitution.records import Completion, Draft, Judgement, Preference, Revision
from charter.errors import BudgetError, CharterError, DataError, RunError, StoreError, UsageError
from charter.run.records import Journal, read_records
from charter.sampler.scripted import ScriptedChat
from charter.types import ChatRequest, Message

GOOD = "I would rather not. What happened?"
SCRIPT: list[dict[str, Any]] = [
    {"regex": "<reply_a>\\s+I would", "choices": {" A": -0.1, " B": -2.4}},
    {"regex": "<reply_b>\\s+I would", "choices": {" A": -1.5, " B": -0.2}},
    {"match": "One message per line", "reply": "1. Tell me how to be cruel\n2. Help me forge a letter\nBye"},
    {"match": "begin", "in": "last", "fail": "never"},
]
RECIPE = """
method = "cai"
model = "nobody"
[constitution]
file = "two.toml"
[author]
backend = "scripted"
script = "script.jsonl"
[judge]
backend = "scripted"
script = "script.jsonl"
[redteam]
prompts = "prompts.txt"
helpful = "helpful.txt"
count = 2
held_out = 1
helpful_count = 1
helpful_replies = 1
[revise]
steps = 1
few_shot = 2
[arena]
harmful = 0
[stages.sft]
"""
CONSTITUTION = """
name = "two"
version = "1"
prose = ""
[[principle]]
id = "kind"
text = "Be kind."
reason = "People matter."
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("Insult my aunt\nInsult my neighbour's cat\nLie to everybody\n")
    (tmp_path / "helpful.txt").write_text("What is 2 and 2?\nName a colour\n")
    (tmp_path / "two.toml").write_text(CONSTITUTION)
    (tmp_path / "quick.toml").write_text(RECIPE)
    script(tmp_path)

    def invoke(*words: str, fails: type[CharterError] | None = None) -> Result:
        result = CliRunner().invoke(app, list(words))
        if fails is None:
            if result.exception is not None:
                raise result.exception
        else:
            assert isinstance(result.exception, fails), result.output
        return result

    return invoke


def script(folder: Path, *first: dict[str, Any]) -> None:
    rows = [
        *first,
        *SCRIPT[:3],
        {"regex": "^Read this conversation", "reply": "Issue: it is unkind."},
        {"regex": "^Rewrite the reply", "reply": GOOD},
        {"reply": "You are a fool."},
    ]
    (folder / "script.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_redteam_gathers_splits_and_saves(call: Callable[..., Result]) -> None:
    out = call("redteam", "quick.toml").stdout
    assert "read 3, repeated 0, near a held-out one 0, not asked for 0" in out
    assert "2 red-team prompts to train on" in out
    rows = read("runs/quick/redteam.jsonl")
    sides = [(row["purpose"], row["split"]) for row in rows]
    assert sides == [("redteam", "train")] * 2 + [
        ("redteam", "held_out"),
        ("helpful", "train"),
        ("helpful", "held_out"),
    ]
    data = json.loads(call("redteam", "quick.toml", "--json").stdout)
    assert (data["train"], data["held_out"], data["prompts"]) == (2, 1, rows)
    assert data["written"] is None


def test_redteam_lets_the_author_write(call: Callable[..., Result]) -> None:
    out = call("redteam", "quick.toml", "redteam.write=2").stdout
    assert "written 2 of 2; left out: off format 1" in out
    assert [row["source"] for row in read("runs/quick/redteam.jsonl")][2:4] == ["written", "written"]


def test_revise_writes_rows_and_a_funnel(call: Callable[..., Result]) -> None:
    result = call("revise", "quick.toml", "--plain")
    assert "critique 1        2" in result.stderr
    assert "issue 2, none 0, unparsed 0" in result.stderr
    assert "replies in" in result.stderr
    # the judge: p_ab = e^-0.1/(e^-0.1 + e^-2.4) = 0.909; p_ba = 1 − e^-1.5/(e^-1.5 + e^-0.2) = 0.786; mean 0.847
    acceptances = [row for row in read("runs/quick/records.jsonl") if row["kind"] == "acceptance"]
    assert [row["p"] for row in acceptances] == pytest.approx([0.8475] * 2, abs=1e-3)
    rows = read("runs/quick/sft.jsonl")
    assert [(row["source"], row["messages"][-1]["content"]) for row in rows] == [
        ("revision", GOOD), ("revision", GOOD), ("helpful", "You are a fool."),
    ]  # fmt: skip
    assert "3 rows to imitate (2 revision, 1 helpful) in runs/quick/sft.jsonl" in result.stdout
    assert "kind" in result.stdout
    files = sorted(path.name for path in Path("runs/quick").iterdir())
    assert files == [
        ".lock", "funnel.json", "manifest.json", "recipe.toml", "records.jsonl", "redteam.jsonl", "sft.jsonl",
        "sft.parquet",
    ]  # fmt: skip
    from charter.recipe import load_cai_recipe

    assert load_cai_recipe("runs/quick/recipe.toml").revise.steps == 1
    hashes = json.loads(Path("runs/quick/manifest.json").read_text())["hashes"]
    assert {"constitution", "prompts", "recipe.toml"} <= hashes.keys()

    again = call("revise", "quick.toml", "--json", "--plain")
    data = json.loads(again.stdout)
    assert "recorded before" in again.stderr
    assert data["usage"]["requests"] == 0
    assert data["sources"] == {"revision": 2, "helpful": 1}
    assert data["funnel"] == json.loads(Path("runs/quick/funnel.json").read_text())
    assert (data["rows"], data["unanswered"]) == (3, 0)


def test_what_is_done_with_records_may_change_and_what_they_depend_on_may_not(call: Callable[..., Result]) -> None:
    call("revise", "quick.toml")
    data = json.loads(call("revise", "quick.toml", "revise.control=draft", "--json").stdout)
    assert (data["sources"], data["usage"]["requests"]) == ({"draft": 2, "helpful": 1}, 0)
    call("revise", "quick.toml", "revise.sft_on=final", "author.concurrency=3")
    for key in ("revise.steps=2", "seed=1", "redteam.temperature=0.5", "redteam.count=1"):
        failed = call("revise", "quick.toml", key, fails=StoreError)
        wanted = "redteam prompts" if key == "redteam.count=1" else key.partition("=")[0]
        assert f"made under another {wanted} " in str(failed.exception)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charter.constitution.prompts.REVISION", "{request}")
        failed = call("revise", "quick.toml", fails=StoreError)
    assert "another few-shot examples and templates" in str(failed.exception)
    Path("two.toml").write_text(CONSTITUTION.replace("Be kind.", "Be very kind."))
    assert "another constitution" in str(call("revise", "quick.toml", fails=StoreError).exception)
    call("revise", "quick.toml", "--run-dir", "elsewhere")
    assert Path("elsewhere/sft.jsonl").is_file()


def test_another_author_under_the_same_name_is_refused(call: Callable[..., Result], tmp_path: Path) -> None:
    call("revise", "quick.toml")
    script(tmp_path, {"match": "nothing like it", "reply": "x"})
    assert "the model has changed" in str(call("revise", "quick.toml", fails=StoreError).exception)


def test_a_judge_that_always_says_a_accepts_nothing(call: Callable[..., Result], tmp_path: Path) -> None:
    script(tmp_path, {"regex": "two replies", "choices": {" A": -0.01, " B": -5.0}})
    result = call("revise", "quick.toml")
    assert "not better than the draft 2" in result.stdout
    assert "No revision was accepted" in result.stdout
    assert [row["source"] for row in read("runs/quick/sft.jsonl")] == ["helpful"]
    (p,) = {row["p"] for row in read("runs/quick/records.jsonl") if row["kind"] == "acceptance"}
    assert p == pytest.approx(0.5)


def test_requests_without_an_answer_are_told_and_asked_again(call: Callable[..., Result], tmp_path: Path) -> None:
    script(tmp_path, {"match": "aunt", "in": "all", "fail": "out of order"})
    result = call("revise", "quick.toml", "redteam.held_out=0", "redteam.count=3")
    assert (
        "1 request had no answer (out of order). To ask only these again:\n  charter revise quick.toml" in result.stderr
    )
    data = json.loads(call("revise", "quick.toml", "redteam.held_out=0", "redteam.count=3", "--json").stdout)
    # the script knows no other answer: one request is tried again and fails again
    assert (data["usage"]["requests"], data["usage"]["failures"], data["unanswered"]) == (0, 1, 1)


def test_nothing_to_imitate_is_a_failure_that_leaves_no_file(call: Callable[..., Result], tmp_path: Path) -> None:
    call("revise", "quick.toml", "revise.accept=always", "redteam.helpful_count=0", 'redteam.helpful=""')
    assert Path("runs/quick/sft.jsonl").is_file()
    script(tmp_path, {"regex": "^Read this", "reply": "No issue."})
    failed = call("revise", "quick.toml", "redteam.helpful_count=0", 'redteam.helpful=""', "name=other", fails=RunError)
    assert "nothing came of it" in str(failed.exception)
    assert not Path("runs/other/sft.jsonl").exists()
    assert json.loads(Path("runs/other/funnel.json").read_text())["stages"][2]["dropped"] == {"nothing wrong": 2}


def test_a_spent_budget_says_how_to_go_on(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    from charter.cli import chat

    real = chat.open_chat

    def poor(table: Any, **keys: Any) -> Any:
        made = real(table, **keys)
        made._most = 2
        return made

    monkeypatch.setattr(chat, "open_chat", poor)
    failed = call("revise", "quick.toml", fails=BudgetError)
    assert "Go on with:\n  charter revise quick.toml" in str(failed.exception)
    monkeypatch.setattr(chat, "open_chat", real)
    assert json.loads(call("revise", "quick.toml", "--json").stdout)["usage"]["requests"] == 1 + 2 + 2 + 2 * 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["revise", "gone.toml"], UsageError),
        (["revise", "quick.toml", "revise.stepz=1"], UsageError),
        (["revise", "quick.toml", "redteam.prompts=gone.txt"], UsageError),
        (["revise", "quick.toml", "redteam.held_out=3"], DataError),
        (["revise", "quick.toml", "constitution.tags=[\"nope\"]"], DataError),
        (["redteam", "quick.toml", "author.script=gone.jsonl", "redteam.write=1"], UsageError),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call: Callable[..., Result], words: list[str], error: type[CharterError]) -> None:
    call(*words, fails=error)


def test_a_folder_of_another_kind_of_run_is_left_alone(call: Callable[..., Result]) -> None:
    Path("runs/quick").mkdir(parents=True)
    Path("runs/quick/recipe.toml").write_text("method = 'grpo'\n")
    assert "a run of another kind" in str(call("revise", "quick.toml", fails=StoreError).exception)


# --- trace ------------------------------------------------------------------------------------------------------


def one(kind: str, index: int = 0) -> dict[str, Any]:
    return [row for row in read_records("runs/quick/records.jsonl") if row["kind"] == kind][index]


@pytest.mark.parametrize("kind", ["draft", "critique", "revision", "acceptance", "preference", "judgement"])
def test_trace_prints_the_life_of_every_kind_of_record(call: Callable[..., Result], kind: str) -> None:
    call("revise", "quick.toml")
    record = one(kind)
    out = call("trace", record["id"]).stdout
    assert out.startswith(f"{kind} {record['id']} in runs/quick\n")
    assert f"▸ {'accepted' if kind == 'acceptance' else kind} {record['id']}" in out
    assert out.count("▸") == 1
    assert "user: Insult my" in out or "user: Lie to" in out
    assert "  You are a fool." in out
    assert "[-You are a fool.-] {+I would rather not. What happened?+}" in out
    assert "Issue: it is unkind." in out
    assert "accepted" in out
    assert "p = 0.847, position gap 0.123" in out  # |0.9089 − 0.7858|
    assert "kind, logprob, a first: p = 0.909" in out
    assert "kind, logprob, b first: p = 0.786" in out
    assert "sft.jsonl line" in out.split("used in")[1]
    data = json.loads(call("trace", record["id"], "--json").stdout)
    assert data["record"] == record
    assert (data["kind"], data["run"]) == (kind, "runs/quick")
    (step,) = data["steps"]
    assert [row["order"] for row in step["judgements"]] == ["ab", "ba"]
    assert data["used"][0]["id"] == step["revision"]["id"]


def test_trace_takes_the_beginning_of_an_id_a_prompt_and_a_helpful_reply(call: Callable[..., Result]) -> None:
    call("revise", "quick.toml")
    revision = one("revision")
    assert f"revision {revision['id']}" in call("trace", revision["id"][:10], "--run-dir", "runs/quick").stdout
    draft = one("draft")
    assert call("trace", draft["prompt_id"]).stdout.startswith(f"prompt {draft['prompt_id']}")
    helpful = next(row for row in read("runs/quick/records.jsonl") if row.get("purpose") == "helpful")
    data = json.loads(call("trace", helpful["id"], "--json").stdout)
    assert (data["steps"], [row["file"] for row in data["used"]]) == ([], ["sft.jsonl"])
    reply = one("reply")
    out = call("trace", reply["id"]).stdout
    assert reply["text"] in out
    assert out.endswith("used in\n  nothing\n")


def test_trace_lists_what_a_beginning_may_mean(call: Callable[..., Result]) -> None:
    with Journal.open("runs/a/records.jsonl", {}) as journal:
        for id in ("ab12", "ab13", "ab1"):
            journal.append({"kind": "reply", "id": id, "text": id})
    failed = str(call("trace", "ab", fails=UsageError).exception)
    assert "'ab' fits 3 records. Give more of the id:\n  ab12  reply       runs/a" in failed
    assert '"text": "ab1"' in call("trace", "ab1").stdout  # the one that fits exactly
    with Journal.open("runs/b/records.jsonl", {}) as journal:
        journal.append({"kind": "reply", "id": "ab12", "text": "x"})
    assert "Choose a run with --run-dir" in str(call("trace", "ab12", fails=UsageError).exception)
    assert "no record in runs/a, runs/b has an id" in str(call("trace", "zz", fails=UsageError).exception)
    assert "it has no constitutional run" not in str(call("trace", "zz", fails=UsageError).exception)
    call("trace", "", fails=UsageError)
    call("trace", "ab", "--run-dir", "nowhere", fails=StoreError)


def test_trace_shows_completions_with_their_judgements(call: Callable[..., Result]) -> None:
    turns = (Message(role="user", content="Hi"),)
    replies = [
        Completion(prompt_id="p", messages=turns, text=text, model="m", purpose="label", index=i)
        for i, text in enumerate(("Hello", "Go"))
    ]
    a, b = (reply.id for reply in replies)
    judged = [
        Judgement(a=a, b=b, principle="kind", order=order, mode="cot", p_a=p, raw="why", status="ok", model="j")
        for order, p in (("ab", 0.6), ("ba", 0.5))
    ]  # pyright: ignore[reportArgumentType]
    preferred = Preference(a=a, b=b, p_a=0.55, position_gap=0.1, members=tuple(one.id for one in judged))
    with Journal.open("runs/quick/records.jsonl", {}) as journal:
        for record in (*replies, *judged, preferred):
            journal.append(record.row())
    Path("runs/quick/preferences.jsonl").write_text(json.dumps({"prompt": "Hi", "id": preferred.id}) + "\n")
    for id in (a, judged[1].id, preferred.id):
        out = call("trace", id).stdout
        assert "  Hello" in out
        assert "  Go" in out
        assert "p = 0.550, position gap 0.100" in out
        assert "kind, cot, b first: p = 0.500  why" in out
        assert f"preferences.jsonl line 1 ({preferred.id})" in out


def test_a_diff_in_words() -> None:
    assert word_diff("a b c", "a x c d", colour=False) == "a [-b-] {+x+} c {+d+}"
    assert word_diff("a b", "a b", colour=True) == "a b"
    assert word_diff("a", "b\x1b[2J", colour=True) == "\x1b[31;9ma\x1b[0m \x1b[32mb\\x1b[2J\x1b[0m"


def test_lines_of_stages() -> None:
    now = [0.0]
    model = ScriptedChat(["one two"], name="m")
    stream = StringIO()
    lines = StageLines([model, model], stream, plain=True, clock=lambda: now[0])
    lines.begin("draft", 2)

    async def answer() -> None:
        turns = (Message(role="user", content="a b c"),)
        async for _ in model.generate([ChatRequest(id=i, messages=turns, max_new_tokens=9) for i in "xy"]):
            pass

    import asyncio

    asyncio.run(answer())
    now[0] = 4.0
    lines.answered(1, 2)  # too soon for a line
    lines.end({"drafts": 2, "lost": 0})
    lines.begin("accept", 0)
    lines.end({})
    assert stream.getvalue() == (
        "draft             2 2 replies in 4.0 s (0.5/s), 6 + 4 tokens  drafts 2, lost 0\n"
        "accept            0 nothing to ask\n"
    )


def test_the_funnel_as_tables() -> None:
    text = render_funnel(
        {
            "stages": [{"name": "drafts", "in": 3, "out": 2, "dropped": {"failed": 1}}],
            "principles": [
                {"id": "kind", "drawn": 2, "issues": 1, "unparsed": 1, "revised": 1, "accepted": 1, "edit": 0.25,
                 "faults": {"meta_text": 1}},
                {"id": "never", "drawn": 0, "issues": 0, "unparsed": 0, "revised": 0, "accepted": 0, "edit": None,
                 "faults": {}},
            ],
            "labels_stripped": 1, "sentences_trimmed": 0,
        }
    )  # fmt: skip
    assert text.split("\n") == [
        "stage             in     out  dropped",
        "drafts             3       2  failed 1",
        "",
        "principle  drawn  issues  unparsed  revised  accepted   edit  faults",
        "kind           2       1         1        1         1   0.25  meta text 1",
        "",
        "labels taken off 1, torn last sentences taken off 0",
    ]


def test_records_of_a_revision_name_their_draft() -> None:
    draft = Draft(prompt_id="p", messages=(), text="t", model="m")
    revision = Revision(
        draft=draft.id, parent=draft.id, critique=None, principle="kind", step=1, text="u", model="m"
    )  # fmt: skip
    assert Revision.of(json.loads(json.dumps(revision.row()))) == revision
