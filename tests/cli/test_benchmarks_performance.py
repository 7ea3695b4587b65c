"""The benchmarks of speed and memory: floors worked out by hand, slopes, arguments, keys; one tiny step is run."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RATES = {"gemm_flops": 1e3, "bandwidth_bytes": 1e3, "gemm_by_shape": {"2x2x2": 1e3}}
STEP_KEYS = {"case", "charter_s", "trl_s", "ratio", "of_limit", "charter_peak_bytes", "trl_peak_bytes"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A benchmark's module by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def model(bench: Callable[[str], Any]) -> Any:
    """100 parameters of the body, 20 of the head, 2 layers of width 3 with keys of width 1."""
    return bench("floors").Model(parameters=120, body=100, head=20, layers=2, attention_width=3, kv_width=1)


def test_floors_by_hand(bench, model):
    floors = bench("floors")
    # prompts of 2 and 3 tokens: bodies 2·100·5, heads 2·20·2, attention 4·(3 + 6)·3·2; weights (100 + 20)·4 bytes
    assert floors.prefill(model, [2, 3]) == floors.Work(1000 + 80 + 216, 480)
    # 2 completions each of 3 tokens: 2 passes of 4 rows. A row sees prompt + 1, then prompt + 2 positions:
    # (3 + 4) · 2 + (4 + 5) · 2 = 32. A pass reads all weights, 5 prompt tokens and 1 or 2 own tokens of 4 rows,
    # each key and value 2 · 1 · 2 · 4 = 16 bytes
    decode = floors.decode(model, [2, 3], 2, 3)
    assert decode == floors.Work(2 * 120 * 8 + 4 * 32 * 3 * 2, 2 * 480 + 16 * (5 + 4 + 5 + 8))
    # the same positions three times over, the head at all 12 completion tokens
    learn = floors.learn(model, [2, 3], 2, 3)
    assert learn == floors.Work(3 * (2 * 100 * (5 + 8) + 2 * 20 * 12 + 24 * (9 + 32)), 3 * 480)
    assert floors.optimizer(model) == floors.Work(0.0, 8 * 120 * 4)
    # 1,296 operations take longer than 480 bytes at 1,000 a second each
    assert floors.prefill(model, [2, 3]).seconds(RATES) == pytest.approx(1.296)
    assert floors.floors(model, [2, 3], 2, 3, RATES) == {
        "sample": pytest.approx(1.296 + max(decode.flops, decode.bytes_) / 1e3),
        "forward_backward": pytest.approx(learn.flops / 1e3),
        "optimizer": pytest.approx(3.84),
    }


def test_a_prompt_is_counted_once_for_its_group(bench, model):
    learn = bench("floors").learn
    # one token after another prompt token costs no pass, so G completions of 1 token cost the prompt and G heads
    assert learn(model, [50], 8, 1).flops - learn(model, [50], 4, 1).flops == 3 * 2 * 20 * 4


def test_of_two_processes_the_better_rate_of_each_shape(bench):
    one = {"gemm_flops": 5.0, "bandwidth_bytes": 3.0, "gemm_by_shape": {"a": 5.0, "b": 1.0}}
    two = {"gemm_flops": 4.0, "bandwidth_bytes": 4.0, "gemm_by_shape": {"a": 2.0, "b": 4.0}}
    found = bench("floors").best_rates([one, two])
    assert found == {"gemm_flops": 5.0, "bandwidth_bytes": 4.0, "gemm_by_shape": {"a": 5.0, "b": 4.0}}


def test_the_model_of_a_folder_is_that_of_the_loaded_policy(bench, tiny_folder):
    from charter.model.load import load_policy

    floors, folder = bench("floors"), tiny_folder("llama")
    assert floors.model_in(folder) == floors.model_of(load_policy(folder, device="cpu", verify=False))


def test_prompts_have_exactly_the_tokens_asked_for(bench, tiny_folder):
    folder = tiny_folder("llama")
    found = bench("workload").exact_prompts(folder, [7, 7, 30])
    assert [len(given.ids) for given in found] == [7, 7, 30]
    assert len({given.text for given in found}) == 3
    assert [len(given.text.encode()) for given in found] == [7, 7, 30]  # its tokenizer has one token per byte


def test_the_cases_are_those_of_the_design(bench):
    cases = bench("workload").CASES
    assert {n: (c.prompts, c.prompt, c.group, c.tokens, c.rows) for n, c in cases.items()} == {
        "S": (4, 65, 8, 64, 32), "M": (2, 512, 8, 64, 16), "L": (1, 1024, 16, 128, 16),
    }  # fmt: skip


def test_slopes_with_their_intervals(bench):
    scaling = bench("scaling")
    # y = 1, 3, 2 at x = 0, 1, 2: b = ((−1)(−1) + 0 + 1 · 0) / 2 = 1/2, a = 2 − 1/2 = 3/2; residuals −1/2, 1, −1/2,
    # so s² = 3/2 at one degree of freedom, and half the interval is 12.706 · √(3/2 / 2)
    line = scaling.fit([0, 1, 2], [1, 3, 2])
    assert (line.a, line.b) == (1.5, 0.5)
    assert line.interval == pytest.approx((0.5 - 12.706 * 0.75**0.5, 0.5 + 12.706 * 0.75**0.5))
    assert scaling.fit([1, 2], [3, 5]) == scaling.Line(a=1, b=2, interval=None)
    with pytest.raises(ValueError, match="two different"):
        scaling.fit([2, 2], [1, 3])
    assert scaling.growth([4, 8, 12], [2.0, 3.0, 5.0]) == [{"x": 8, "ratio": 1.5}]


def test_what_makes_no_sense_is_refused(bench, capsys):
    step, sample, learn = bench("step"), bench("sample"), bench("learn")
    scaling, memory, random_models = bench("scaling"), bench("memory"), bench("random_models")
    with pytest.raises(SystemExit, match="not fastest"):
        step.plan_of(step.make_parser().parse_args(["--case", "S", "--trl", "fastest"]))
    with pytest.raises(SystemExit, match="at least 1"):
        step.plan_of(step.make_parser().parse_args(["--case", "S", "--rounds", "0"]))
    with pytest.raises(SystemExit, match="7 does not divide the 32"):
        step.plan_of(step.make_parser().parse_args(["--case", "S", "--per-device", "7"]))
    with pytest.raises(SystemExit, match="not KEY=VALUE"):
        step.settings_of(["precision"])
    with pytest.raises(SystemExit, match="12 rows are not whole groups of 8"):
        sample.make_cells([12], [64], 8, 128)
    with pytest.raises(argparse.ArgumentTypeError, match="no list of counts"):
        sample.numbers("16,0")
    with pytest.raises(argparse.ArgumentTypeError, match="no ratio"):
        learn.ratios("4")
    with pytest.raises(SystemExit, match="leave no prompt"):
        learn.make_cells([4], [(1, 4)], 3)
    with pytest.raises(SystemExit, match="not time"):
        scaling.make_axes(["time"], 3, "nothing", 4)
    with pytest.raises(SystemExit, match="--cases knows S, M, L"):
        memory.main(["--cases", "X"])
    with pytest.raises(SystemExit, match="'depth=2'"):
        random_models.parse_spec("depth=2")
    for name in ("step", "sample", "learn", "memory", "roofline", "scaling"):
        with pytest.raises(SystemExit) as stop:
            bench(name).make_parser().parse_args(["--help"])
        assert stop.value.code == 0
        assert {"--json", "--store"} <= set(capsys.readouterr().out.split())


def test_trl_gets_its_defaults_and_what_is_best_for_it(bench):
    step = bench("step")
    plan = step.plan_of(step.make_parser().parse_args(["--case", "L"]))
    # 16 completions of 1,152 tokens: 3 of them stay below 4,096 tokens, and 2 divide 16
    assert plan.trl == {
        "default": {},
        "best, 2 per forward": {"gradient_checkpointing": False, "per_device_train_batch_size": 2},
    }
    assert plan.shape.dtype == "float32"
    cuda = step.plan_of(step.make_parser().parse_args(["--case", "S", "--device", "cuda"]))
    assert [name.partition(",")[0] for name in cuda.trl] == ["default", "best", "continuous"]
    assert step.settings_of(["precision=int8", "top_k=5"]) == {"precision": "int8", "top_k": 5}


def test_padded_batches_are_whole_parts_of_a_group(bench):
    learn = bench("learn")
    cell = learn.Cell(group=16, prompt=48, tokens=16)
    assert cell.padded_tokens == 1024
    assert [learn.padded_rows(cell, most) for most in (4096, 1023, 300, 10)] == [16, 8, 4, 1]


def test_the_estimate_with_prompts(bench):
    from charter.learner import plan as learn_plan

    memory = bench("memory")
    shape = bench("measured_step").Shape(model="m", prompts=2, group=2, tokens=5, repeats=1, prompt=10)
    parts = {"weights": 1, "optimizer state": 2, "reference model": 0, "gradients": 4, "logits chunk": 8,
             "activations of a micro-batch": 200, "sampler cache": 40}  # fmt: skip
    told = {"bytes": parts, "micro-batch tokens": 100}
    # 20 completion tokens take 200; with 20 prompt tokens 400
    assert memory.with_prompts(told, shape) == 1 + 2 + 4 + 400 + 8
    # a micro-batch of 30 tokens holds one group of 20
    assert memory.with_prompts(told | {"micro-batch tokens": 30}, shape) == 1 + 2 + 4 + 200 + 8
    # a group of 10 + 4 · 300 goes through in parts; two parts of 512 and the prompt, of 1,200 that take 1,200
    assert (memory.ENOUGH_TOKENS, memory.PART_TOKENS) == (learn_plan.ENOUGH_TOKENS, learn_plan.PART_TOKENS)
    shape = replace(shape, prompts=1, group=4, tokens=300)
    told = {"bytes": parts | {"activations of a micro-batch": 1200}, "micro-batch tokens": 2048}
    assert memory.with_prompts(told, shape) == 1 + 2 + 4 + 1034 + 8
    # five groups of 10 + 4 · 90: two make enough for a forward, and two forwards are there together
    shape = replace(shape, prompts=5, tokens=90)
    told = {"bytes": parts | {"activations of a micro-batch": 1800}, "micro-batch tokens": 2048}
    assert memory.with_prompts(told, shape) == 1 + 2 + 4 + 4 * 370 + 8


def said(seconds: float, peak: int, model: Any) -> dict[str, Any]:
    """What a process of Charter's side says of a step."""
    parts = dict.fromkeys(("sample_s", "score_s", "credit_s", "forward_backward_s", "optimizer_s"), seconds / 5)
    counts = {"sampled_tokens": 12, "forwarded_tokens": 13, "groups_with_signal": 2, "microbatch_tokens": 64}
    return {
        "threads": 1, "device": "cpu", "rates": RATES, "peak_bytes": peak, "device_peak_bytes": None,
        "peak_bytes_after": {"imports": 100}, "sizes": {"prompt_tokens": [2, 3], "group": 2, "tokens": 3},
        "model": {name: getattr(model, name) for name in model.__slots__},
        "steps": [{**parts, **counts, "step_s": seconds}],
    }  # fmt: skip


def trl_said(seconds: float, peak: int) -> dict[str, Any]:
    times = {"step_s": seconds, "sample_s": seconds / 2, "score_s": 0.0}
    kept = {"versions": {}, "threads": 1, "groups_with_signal": 2, "per_device_train_batch_size": 8,
            "gradient_checkpointing": False}  # fmt: skip
    return {"steps": [times], "peak_bytes": peak, "peak_bytes_after": {"imports": 50}, "device_peak_bytes": None} | kept


def test_the_figures_of_a_comparison(bench, model):
    step = bench("step")
    plan = step.plan_of(step.make_parser().parse_args(["--case", "S", "--rounds", "3"]))
    ours = [said(seconds, peak, model) for seconds, peak in ((20.0, 300), (40.0, 400), (10.0, 350))]
    theirs = {
        "default": [trl_said(seconds, 1000) for seconds in (90.0, 80.0, 100.0)],
        "best": [trl_said(seconds, 1600) for seconds in (50.0, 40.0, 60.0)],
        "broken": [{"failed": "it ran out of memory"}],
    }
    found = step.summary(plan, ours, theirs)
    assert set(found) >= STEP_KEYS
    assert (found["charter_s"], found["trl_s"], found["trl_setting"], found["ratio"]) == (20.0, 50.0, "best", 0.4)
    assert (found["charter_peak_bytes"], found["trl_peak_bytes"], found["peak_ratio"]) == (400, 1600, 0.25)
    assert found["trl"]["broken"] == {"failed": "it ran out of memory"}
    assert found["trl"]["best"]["learn_s"] == 25.0
    assert found["of_limit"] == pytest.approx(found["floor_s"] / 20.0)
    assert found["parts"]["sample"]["tokens_per_s"] == 3.0
    shown = step.report(found | {"valid": False, "disturbed_by": ["somebody"]})
    assert "it ran out of memory" in shown
    assert "NOT VALID: somebody" in shown
    alone = step.summary(plan, ours, {})
    assert (alone["trl_s"], alone["ratio"], alone["trl_peak_bytes"]) == (None, None, None)


def test_the_page_is_written_between_its_markers(bench, model, tmp_path, monkeypatch):
    step, page_module, harness = bench("step"), bench("performance_page"), bench("harness")
    plan = step.plan_of(step.make_parser().parse_args(["--case", "S", "--rounds", "1"]))
    quiet = {"valid": True, "disturbed_by": [], "packages": {"torch": "2"}, "machine": {"processor": "P", "cores": 2}}
    taken = {**quiet, "revision": "abc", "date": "2026-01-02T03:04:05Z"}
    data = {**step.summary(plan, [said(20.0, 300, model)], {"best": [trl_said(50.0, 900)]}), **taken}
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    harness.store("step_S", data)
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n\n<!-- results: begin -->\nold\n<!-- results: end -->\n\nMore.\n")
    page_module.main(["--page", str(page)])
    written = page.read_text()
    assert "| S: 4 × 65, 8 × 64 | 20.00 | 50.00 | 0.400 |" in written
    assert "P, 1 threads; 1 round; torch 2; commit abc; 2026-01-02." in written
    assert "| S: time of a step against TRL | ≤ 1/3 | 0.400 | **missed** |" in written
    assert "| S: peak memory against TRL | ≤ 1/3 | 0.333 | met |" in written
    assert "old" not in written
    assert written.endswith("<!-- results: end -->\n\nMore.\n")
    root = ElementTree.parse(tmp_path / "images" / "performance_step.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    page_module.main(["--page", str(page), "--check"])
    page.write_text(written.replace("50.00", "51.00"))
    with pytest.raises(SystemExit, match=r"performance\.md"):
        page_module.main(["--page", str(page), "--check"])
    with pytest.raises(SystemExit, match="to write between"):
        page_module.between("# Nothing", "text")


def test_targets_are_met_or_missed_at_their_bounds(bench):
    told = {
        "step_L": {"ratio": 1 / 6, "of_limit": 0.499, "peak_ratio": 0.34},
        "sample": {"cells": [
            {"rows": 64, "tokens": 128, "prompt": 64, "sides": {"charter": {"of_limit": 0.5}}, "charter_against": {
                "generate": {"tokens_per_s": 4.0, "tokens_per_core_s": 1.0},
                "vllm": {"tokens_per_s": 9.0, "tokens_per_core_s": 1.29}}},
            {"rows": 16, "tokens": 128, "prompt": 64, "sides": {"charter": {"of_limit": 0.1}}, "charter_against": {}},
        ]},
        "scaling": {"axes": {"group": {"parts": {"forward_backward": {
            "growth": [{"ratio": 9.0}, {"ratio": 1.8}], "floor_growth": [{"ratio": 1.0}, {"ratio": 1.6}]}}}}},
    }  # fmt: skip
    text = bench("performance_page").targets_part(told.get)
    verdicts = [(line.split(" | ")[0][2:], line.split(" | ")[-1][:-2]) for line in text.splitlines()[4:]]
    assert verdicts == [
        ("L: time of a step against TRL", "met"),
        ("L: of the limit", "**missed**"),
        ("L: peak memory against TRL", "**missed**"),
        ("sampling 64 × 128, prompt 64: tokens/s against transformers `generate`", "met"),
        ("sampling 64 × 128, prompt 64: tokens per core-second against vLLM", "**missed**"),
        ("sampling 64 × 128, prompt 64: of the limit", "met"),
        ("learning as G doubles: its growth over the limit's", "**missed**"),
    ]
    assert "1.125" in text


def test_nothing_imports_torch_before_a_child_does():
    names = "step, sample, learn, memory, roofline, scaling, step_parts, performance_page"
    code = f"import sys\nimport {names}\nassert 'torch' not in sys.modules, 'torch'\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_tiny_step_is_measured_part_by_part(bench, tiny_folder):
    step = bench("measured_step")
    shape = step.Shape(
        model=str(tiny_folder("llama")), prompts=2, group=4, tokens=3, repeats=1, prompt=5, rates=False, dtype="float32"
    )
    found = step.child(shape)
    (row,) = found["steps"]
    assert found["sizes"] == {"prompt_tokens": [5, 5], "group": 4, "tokens": 3}
    assert (row["sampled_tokens"], row["learnt_tokens"]) == (24, 24)
    assert row["forwarded_tokens"] == 2 * (5 + 4 * 2)  # the last token of a completion is not forwarded
    assert row["groups_with_signal"] == 2
    assert row["step_s"] == pytest.approx(sum(row[f"{part}_s"] for part in step.PARTS))
    json.dumps(found)


def test_curves_are_compared_seed_by_seed(bench):
    """Areas 0.1 and 0.3 above fp32's: mean 0.2, half width 12.706 · 0.1414 / √2 = 1.2706 (Student, one degree)."""
    curves = bench("curves")
    own = {0: {"reward_by_step": [0.0, 0.4], "train_seconds": 1.0, "after": {"0": 0.5}},
           1: {"reward_by_step": [0.2, 0.4], "train_seconds": 1.0, "after": {"0": 0.6}}}  # fmt: skip
    other = {0: {"reward_by_step": [0.1, 0.5], "train_seconds": 2.0, "after": {"0": 0.4}, "versions": {"trl": "1"}},
             1: {"reward_by_step": [0.5, 0.7], "train_seconds": 2.0, "after": {"0": 0.8}}}  # fmt: skip
    found = curves.summary({"fp32": own, "trl": other})
    assert found["fp32"]["curve"] == [[pytest.approx(0.1), 0.0, 0.2], [0.4, 0.4, 0.4]]
    assert found["trl"]["numbers"]["area"]["mean"] == pytest.approx(0.45)
    less = found["trl"]["numbers"]["area"]["less_fp32"]
    assert less["mean"] == pytest.approx(0.2)
    assert less["interval"] == pytest.approx([0.2 - 1.2706, 0.2 + 1.2706], abs=1e-3)
    assert found["trl"]["numbers"]["accuracy at 0"]["less_fp32"]["mean"] == pytest.approx(0.05)
    assert found["trl"]["steps_overlapping_fp32"] == 1  # 0.1 to 0.5 meets 0.0 to 0.2; 0.5 to 0.7 does not meet 0.4
    assert "trl: its range over seeds meets fp32's in 1 of 2 steps" in curves.report({"sides": found})
