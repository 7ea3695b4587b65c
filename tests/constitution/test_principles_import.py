"""Other projects' formats, and `charter constitution`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from charter.cli.constitution import app
from charter.constitution.principles import Constitution
from charter.errors import DataError, UsageError

PAPER = {
    "harmful0": {
        "prompt": "\n\nCritiqueRequest: Say what is bad.\n\nCritique:",
        "edit_request": "\n\nRevisionRequest: Make it good.\n\nRevision:",
    },
    "harmful1": {"critique_request": "What is rude?", "revision_request": "Be polite."},
}


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_the_papers_object_of_requests():
    imported = Constitution.from_json(PAPER, "paper")
    first, second = imported.constitution.principles
    assert (first.id, first.critique, first.revision) == ("harmful0", "Say what is bad.", "Make it good.")
    assert first.text == "Make it good."
    assert (second.id, second.critique, second.revision) == ("harmful1", "What is rude?", "Be polite.")
    assert imported.unmapped == ()
    assert imported.constitution.name == "paper"


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"constitutions": rows}])
def test_lists_of_pairs(wrap: Any):
    rows = [{"critic": "Is it rude?", "revision": "Be polite."}, {"CritiqueRequest": "Is it long?", "name": "Short"}]
    constitution = Constitution.from_json(wrap(rows)).constitution
    assert [(p.id, p.critique, p.revision) for p in constitution.principles] == [
        ("principle-1", "Is it rude?", "Be polite."), ("short", "Is it long?", ""),
    ]  # fmt: skip


def test_lists_of_questions_are_preferences():
    constitution = Constitution.from_json(["Choose the kinder reply.", "Which is truer?", "Be brief."]).constitution
    assert [p.preference for p in constitution.principles] == ["Choose the kinder reply.", "Which is truer?", ""]
    assert constitution.principles[2].text == "Be brief."


def test_what_cannot_be_mapped_is_named():
    imported = Constitution.from_json({**PAPER, "n": 3, "odd": {"foo": 1}, "half": {"critic": "X?", "revision": ["y"]}})
    assert imported.constitution.ids == ("harmful0", "harmful1", "half")
    assert imported.unmapped == (
        "n: 3", "odd.foo: 1", "odd: it has no rule and no phrasing, but the keys foo", 'half.revision: ["y"]',
    )  # fmt: skip
    more = Constitution.from_json({"principles": [{"text": "Be calm."}], "system_chat": [1]})
    assert more.unmapped == ("system_chat: [1]",)
    again = Constitution.from_json([{"id": "a", "text": "1"}, {"id": "A", "text": "2"}, {"id": "a", "text": "3"}])
    assert again.constitution.ids == ("a", "a-2", "a-3")


@pytest.mark.parametrize("data", [{}, [], 3, "x", [None], {"a": {"b": {}}}, [[]], [""]])
def test_what_holds_no_principle_is_an_error(data: Any):
    with pytest.raises(DataError, match="no principle was found"):
        Constitution.from_json(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["critic", "revision", "text", "id", "prompt", "principles", "x"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_any_json_gives_principles_that_can_be_written_or_an_error(data: Any):
    try:
        constitution = Constitution.from_json(data).constitution
    except DataError:
        return
    assert all(p.id and p.text for p in constitution.principles)
    assert len(set(constitution.ids)) == len(constitution.ids)
    assert Constitution.from_toml(constitution.to_toml()) == constitution


def test_a_markdown_list():
    text = """# Rules
Why they are there.

## Safety
- **Calm**: stay calm
  in all things
* Be kind to people.

## Style
1. Write *short* sentences.

A remark.
"""
    imported = Constitution.from_markdown(text, "mine")
    constitution = imported.constitution
    assert [(p.id, p.title, p.text, p.tags) for p in constitution.principles] == [
        ("calm", "Calm", "stay calm in all things", ("safety",)),
        ("be-kind-to-people", "", "Be kind to people.", ("safety",)),
        ("write-short-sentences", "", "Write *short* sentences.", ("style",)),
    ]
    assert constitution.prose == "# Rules\nWhy they are there."
    assert imported.unmapped == ("line 12: text between the items: 'A remark.'",)
    with pytest.raises(DataError, match="no list was found"):
        Constitution.from_markdown("only prose")


def test_files_are_read_by_their_ending(tmp_path: Path):
    (tmp_path / "my Rules.json").write_text(json.dumps(PAPER))
    assert Constitution.from_file(tmp_path / "my Rules.json").constitution.name == "my-rules"
    (tmp_path / "a.jsonl").write_text('{"critic": "a", "revision": "b"}\n\n{"critic": "c"}\n')
    assert len(Constitution.from_file(tmp_path / "a.jsonl").constitution.principles) == 2
    (tmp_path / "b.jsonl").write_text('{"critic": "a"}\n{"critic"\n')
    with pytest.raises(DataError, match=r"b\.jsonl: line 2: it is not valid JSON"):
        Constitution.from_file(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        Constitution.from_file(tmp_path / "none.json")


def test_show_prints_a_constitution_and_a_list():
    listed = json.loads(run("show", "--json").stdout)
    assert {row["name"]: row["principles"] for row in listed} == {"concise": 6, "helpful-harmless": 16, "honest": 7}
    data = json.loads(run("show", "helpful-harmless", "--json").stdout)
    constitution = Constitution.load("helpful-harmless")
    assert data["hash"] == constitution.hash
    assert [p["id"] for p in data["principles"]] == list(constitution.ids)
    text = run("show", "helpful-harmless").stdout
    for principle in constitution.principles:
        assert all(part in text for part in (principle.text, principle.reason, principle.preference))


def test_lint_fails_where_something_is_found(tmp_path: Path):
    sound = run("lint", "concise")
    assert (sound.exit_code, sound.stdout) == (0, "concise, nothing found\n")
    bad = tmp_path / "bad.toml"
    bad.write_text('[[principle]]\nid = "a"\ntext = "x"\nweight = -1\n')
    found = run("lint", str(bad), "--json")
    assert found.exit_code == 1
    kinds = [row["kind"] for row in json.loads(found.stdout)]
    assert kinds == ["no-prose", "empty-phrasing", "empty-phrasing", "empty-phrasing", "no-reason", "negative-weight"]
    assert f"{bad}:4 principle 'a' weight: the weight is -1" in run("lint", str(bad)).stdout
    missing = run("lint", str(tmp_path / "none.toml"))
    assert isinstance(missing.exception, UsageError)
    assert missing.exception.exit_code == 2


def test_diff_and_import(tmp_path: Path):
    source, out = tmp_path / "p.json", tmp_path / "p.toml"
    source.write_text(json.dumps(PAPER | {"n": 3}))
    done = run("import", str(source), "--out", str(out), "--name", "mine", "--json")
    assert done.exit_code == 0
    data = json.loads(done.stdout)
    assert (data["name"], data["principles"], data["unmapped"]) == ("mine", 2, ["n: 3"])
    assert data["findings"] == len(Constitution.load(out).lint()) > 0
    before = out.read_bytes()
    again = run("import", str(source), "--out", str(out))
    assert isinstance(again.exception, UsageError)
    assert out.read_bytes() == before
    other = tmp_path / "other.toml"
    other.write_text(out.read_text().replace("Be polite.", "Be very polite."))
    changed = json.loads(run("diff", str(out), str(other), "--json").stdout)
    assert [(c["id"], c["field"]) for c in changed["changed"]] == [("harmful1", "text"), ("harmful1", "revision")]
    assert changed["hash_before"] != changed["hash_after"]
    assert "~ harmful1 text: Be{+ very+} polite." in run("diff", str(out), str(other)).stdout
    assert "no difference" in run("diff", str(out), str(out)).stdout


def test_nothing_in_a_file_commands_the_terminal(tmp_path: Path):
    file = tmp_path / "e.toml"
    file.write_text('[[principle]]\nid = "a"\ntext = "\\u001b[31mred"\n')
    assert "\x1b" not in run("show", str(file)).stdout
    assert "\\x1b[31mred" in run("show", str(file)).stdout


def test_the_schema_is_printed():
    assert json.loads(run("schema").stdout)["required"] == ["principle"]
