"""What a verb of the constitutional loop says where it ends before its end."""

from __future__ import annotations

import pytest

from charter.cli.going_on import command_line, going_on
from charter.errors import BudgetError, DataError, RunError
from charter.train.pipeline import StageStopped


def test_the_command_is_ready_to_be_typed_again():
    assert command_line("label", "my recipe.toml", None, None) == "charter label 'my recipe.toml'"
    assert (
        command_line("label", "r.toml", ["seed=1", "name=a b"], "out dir", "--allow-uncalibrated")
        == "charter label r.toml seed=1 'name=a b' --run-dir 'out dir' --allow-uncalibrated"
    )


@pytest.mark.parametrize("kind", [BudgetError, StageStopped])
def test_a_spent_budget_and_a_stop_keep_their_kind_and_say_how_to_go_on(kind):
    with pytest.raises(kind) as caught, going_on("charter cai r.toml", "It is in runs/r."):
        raise kind("9 of 9 requests are spent")
    assert str(caught.value) == "9 of 9 requests are spent\nIt is in runs/r. Go on with:\n  charter cai r.toml"


def test_an_interrupt_is_an_error_with_a_sentence_and_no_traceback():
    with pytest.raises(RunError) as caught, going_on("charter cai r.toml", "It is in runs/r."):
        raise KeyboardInterrupt
    assert str(caught.value) == "stopped. It is in runs/r. Go on with:\n  charter cai r.toml"
    assert caught.value.__suppress_context__


def test_what_is_wrong_with_the_data_is_left_as_it_is():
    with pytest.raises(DataError, match=r"^line 3$"), going_on("charter cai r.toml", "It is in runs/r."):
        raise DataError("line 3")
