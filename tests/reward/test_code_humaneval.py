"""HumanEval through the reward: references pass, broken ones do not, and Python agrees about every one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from charter import assets
from charter.errors import AssetError

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "humaneval.py"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_humaneval_and_its_mutants() -> None:
    try:
        assets.get("humaneval")
    except AssetError as reason:
        pytest.skip(f"HumanEval cannot be fetched here: {reason}")
    command = [sys.executable, str(BENCHMARK), "--json", "--per-operator", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["reference_failures"] == {}
    assert (found["tasks"], found["reference_passed"]) == (164, 164)
    assert found["tasks_with_a_caught_mutant"] == 164
    # every solution returns something, and a None instead is noticed by every task's tests
    assert (found["operators"]["return"]["tasks"], found["operators"]["return"]["tasks_caught"]) == (164, 164)
    # loops over random inputs; everything else is straight-line
    assert found["checker"] == [f"HumanEval/{n}" for n in (32, 38, 44, 50, 53)]
    # a mutant that the reward passes is one that Python passes, and the other way round
    assert found["disagreements"] == []
    assert done.returncode == 0
