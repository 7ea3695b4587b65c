"""What `charter explain` says of recipes with stages."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from charter.cli.app import app

R1 = Path(__file__).resolve().parents[2] / "recipes" / "r1.toml"


def test_a_pipeline_is_explained_stage_by_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("CHARTER_CACHE", str(tmp_path))  # no model is here
    found = json.loads(CliRunner().invoke(app, ["explain", str(R1), "--json"]).stdout)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert [(name, stage["begins_from"]) for name, stage in stages.items()] == [
        ("cold-start", "@start"),
        ("rules", "@cold-start"),
        ("sample", "@rules"),
        ("imitate", "@rules"),
        ("taste", "@start"),
        ("rules-and-preferences", "@imitate"),
    ]
    # 64 prompts × 4 completions × 56 tokens
    assert stages["sample"]["sizes"]["sampled tokens, at most"] == 64 * 4 * 56
    assert stages["rules"]["sizes"]["completions in the run"] == 8 * 6 * 6
    assert found["memory"] is None
    assert [note for note in found["notes"] if note.startswith("no memory estimate")] == found["notes"] != []
    text = CliRunner().invoke(app, ["explain", str(R1)]).stdout
    assert "── 3. sample: rejection, begins from @rules" in text
    assert "r ≥ 1.2, ended by itself, not empty; of each prompt 1, the shortest" in text
