"""What makes no sense about a policy loss's numbers, and the formulas in print."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from charter.objectives import advantages, aggregation, kl, policy, preference
from charter.objectives.formulas import (
    FORMULAS,
    Formula,
    advantage_formula,
    aggregation_formula,
    combination_formula,
    kl_formula,
    policy_formula,
    preference_formula,
)
from charter.objectives.settings import check_policy_settings, clip_range, named_settings

KINDS = ("reinforce", "clip", "gspo", "cispo", "sapo", "dppo_tv")


class TestSensible:
    @pytest.mark.parametrize("kind", KINDS)
    def test_defaults_are_accepted(self, kind: str):
        assert check_policy_settings(kind, None, None, None) == []

    @pytest.mark.parametrize(
        "settings",
        [
            ("clip", 0.2, 0.28, None),
            ("clip", 0.2, 0.2, 3.0),
            ("clip", 0.99, 1.5, None),
            ("gspo", 3e-4, 4e-4, None),
            ("gspo", 0.099, 0.099, None),
            ("cispo", None, 0.5, None),
        ],
    )
    def test_accepted(self, settings: tuple[str, float | None, float | None, float | None]):
        assert check_policy_settings(*settings) == []

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            (("cispo", None, -0.5, None), r"clip_high = -0\.5 caps the cispo weight at 0\.5, below 1"),
            (("cispo", None, 0.0, None), r"clip_high = 0\.0 leaves the ratio no room.* 4\.0 is usual"),
            (("cispo", 0.2, None, None), r'clip_low = 0\.2 has no effect: the loss "cispo"'),
            (("gspo", 0.1, None, None), r"clip_low = 0\.1 never clips a gspo ratio.* 0\.0003 is usual"),
            (("gspo", None, 0.2, None), r"clip_high = 0\.2 never clips a gspo ratio.* 0\.0004 is usual"),
            (("clip", 1.0, None, None), r"clip_low = 1\.0 puts the lower bound at 0,"),
            (("clip", 0.0, None, None), r"clip_low = 0\.0 leaves the ratio no room"),
            (("clip", None, -0.2, None), r"clip_high = -0\.2 leaves the ratio no room"),
            (("clip", None, float("nan"), None), r"clip_high = nan leaves the ratio no room"),
            (("sapo", None, 0.2, None), r'clip_high = 0\.2 has no effect: the loss "sapo"'),
            (("clip", None, None, 1.0), r"dual_clip is 1\.0; it must be above 1"),
            (("gspo", None, None, 3.0), r'dual_clip bounds the loss "clip"; the loss here is \'gspo\''),
            (("ppo", 0.2, 0.2, None), r"loss is 'ppo'; choose one of reinforce, clip, gspo, cispo, sapo, dppo_tv"),
        ],
    )
    def test_refused_with_one_sentence(self, settings: tuple[str, float, float, float], sentence: str):
        found = check_policy_settings(*settings)
        assert len(found) == 1
        assert re.search(sentence, found[0])
        assert found[0].endswith(".")

    def test_every_problem_is_told(self):
        assert len(check_policy_settings("sapo", 0.1, 0.2, 3.0)) == 3

    def test_clip_range_fills_in_defaults(self):
        assert clip_range("clip") == (0.2, 0.2)
        assert clip_range("clip", 0.1) == (0.1, 0.2)
        assert clip_range("gspo", None, 5e-4) == (3e-4, 5e-4)
        assert clip_range("cispo", 0.3, 7) == (None, 7)
        assert clip_range("sapo", 0.3, 0.3) == (None, None)

    def test_named_settings_fill_in_defaults(self):
        assert named_settings("sapo", {}) == {"tau_positive": 1.0, "tau_negative": 1.05}
        assert named_settings("sapo", {"tau_positive": 2.0}) == {"tau_positive": 2.0, "tau_negative": 1.05}
        assert named_settings("dppo_tv", {}) == {"delta": 0.2}
        assert named_settings("clip", {}) == {}


class TestFormulas:
    def test_every_name_has_one(self):
        names = {name.partition("/")[0] for name in FORMULAS}
        assert names == {"policy", "advantage", "combine", "aggregation", "kl", "preference"}
        assert {n.partition("/")[2] for n in FORMULAS if n.startswith("policy/")} == set(KINDS)
        for formula in FORMULAS.values():
            assert formula.expression
            assert formula.source

    @pytest.mark.parametrize(
        ("formula", "parts"),
        [
            (policy_formula("clip"), ["clip(ρ, 1 − 0.2, 1 + 0.2)", "arXiv 1707.06347"]),
            (policy_formula("clip", 0.1, 0.28), ["clip(ρ, 1 − 0.1, 1 + 0.28)"]),
            (policy_formula("clip", dual_clip=3.0), ["where A < 0 at most 3 |A|", "arXiv 1912.09729"]),
            (policy_formula("gspo"), ["clip(s, 1 − 3e-4, 1 + 4e-4)", "arXiv 2507.18071"]),
            (policy_formula("cispo"), ["stopgrad(min(ρ, 1 + 4)) · A · lp", "arXiv 2506.13585"]),
            (policy_formula("cispo", clip_high=2.5), ["min(ρ, 1 + 2.5)"]),
            (policy_formula("sapo"), ["τ = 1 where A > 0, 1.05 where A < 0"]),
            (policy_formula("sapo", tau_negative=1.2), ["1.2 where A < 0"]),
            (policy_formula("dppo_tv", delta=0.15), ["π − π_old ≤ 0.15", "π − π_old ≥ −0.15"]),
            (policy_formula("reinforce"), ["loss = −A · lp"]),
            (advantage_formula(), ["A = r − mean(r)", "arXiv 2503.20783"]),
            (advantage_formula("standardize"), ["(std(r) + 1e-4)", "arXiv 2402.03300"]),
            (advantage_formula("batch_std", 1e-6), ["+ 1e-6)"]),
            (advantage_formula("standardize", 0.0), ["(std(r) + 0)"]),
            (advantage_formula("standardize", 1e-3), ["(std(r) + 0.001)"]),
            (advantage_formula("standardize", 1.2e-3), ["(std(r) + 0.0012)"]),
            (combination_formula(), ["Σ_k w_k r_k"]),
            (combination_formula("per_reward", 0.01), ["(std(r_k) + 0.01)", "arXiv 2601.05242"]),
            (aggregation_formula(), ["Σ ℓ m / Σ m"]),
            (aggregation_formula("constant"), ["completions of the step · max_new_tokens"]),
            (aggregation_formula("constant", 512), ["completions of the step · 512"]),
            (kl_formula("k2"), ["d²/2", "arXiv 2506.09477"]),
            (kl_formula(), ["exp(−d) + d − 1"]),
            (preference_formula(), ["log σ(0.1 h)", "q = p,", "arXiv 2305.18290"]),
            (preference_formula("dpo", 0.2, 0.1), ["log σ(0.2 h)", "q = p·0.9 + (1 − p)·0.1"]),
            (preference_formula("cdpo", 0.1, 0.2), ["q = p·0.8 + (1 − p)·0.2", "Mitchell 2023"]),
            (preference_formula("ipo"), ["(h − 5)²", "(h + 5)²", "arXiv 2310.12036"]),
            (preference_formula("length_normalized"), ["/|a|", "/|b|"]),
        ],
    )
    def test_constants_stand_in_the_formula(self, formula: Formula, parts: list[str]):
        for part in parts:
            assert part in str(formula)

    @pytest.mark.parametrize(
        "call",
        [policy_formula, advantage_formula, combination_formula, aggregation_formula, kl_formula, preference_formula],
    )
    def test_unknown_name(self, call):
        with pytest.raises(ValueError, match="'nothing'; expected one of"):
            call("nothing")

    def test_settings_the_loss_would_refuse(self):
        with pytest.raises(TypeError, match="no argument delta"):
            policy_formula("clip", delta=0.1)
        with pytest.raises(ValueError, match="dual_clip"):
            policy_formula("gspo", dual_clip=3.0)

    def test_printing_needs_no_torch(self):
        code = "import sys, charter.objectives.formulas; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_documented_names_are_importable_from_their_rooms():
    assert callable(policy.mismatch_weights)
    assert callable(policy.mismatch_statistics)
    assert callable(policy.check_policy_settings)
    assert callable(advantages.group_advantages)
    assert callable(aggregation.token_weights)
    assert callable(kl.kl_estimate)
    assert callable(preference.dpo_loss)
