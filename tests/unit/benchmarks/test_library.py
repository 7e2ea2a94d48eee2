"""The table of the library's policies: which arms it has, and what its figures are computed from."""

from __future__ import annotations

import pytest

from benchmarks.library import NO_POLICY, Figures, arms, figures, policy_of, row
from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.datasets import read
from forkpoint_clients.evaluate.journal import Unit


def test_policies_that_act_on_logits_alone_come_with_their_placebos() -> None:
    every = arms([])
    assert every[0] == NO_POLICY
    assert {"nowait", "nowait.placebo", "p-less", "reasoning-cap"} <= set(every)
    assert not {"deepconf", "branch", "deer", "think-again", "cgrs", "deepconf.placebo"} & set(every)
    assert arms(["nowait"]) == [NO_POLICY, "nowait", "nowait.placebo"]


def test_placebos_have_the_parameters_of_their_policies() -> None:
    assert policy_of("budget-force.placebo") == {"use": "budget-force.placebo", "with": {"text": " Wait"}}
    assert policy_of("nowait") == "nowait"
    assert policy_of(NO_POLICY) == "observe"


def test_a_row_has_effects_per_answer_and_per_token() -> None:
    plain = [Figures(1.0, 80.0, 100.0, 0.0, 0.0, 0.0), Figures(0.0, 280.0, 300.0, 0.0, 0.0, 1.0)]
    own = [Figures(1.0, 80.0, 100.0, 10.0, 1.0, 0.0), Figures(1.0, 80.0, 100.0, 30.0, 5.0, 0.0)]
    cells = [cell.strip() for cell in row("nowait", own, plain).strip("| ").split("|")]
    assert cells[:2] == ["`nowait`", "100%"]
    assert cells[2].startswith("+50.0 [")
    assert cells[3] == "80"
    assert cells[4].startswith("−100 [")
    assert cells[5:] == ["0%", "20.0%", "3.00", "0.0300"]  # and an empty cell
    assert row(NO_POLICY, plain, plain) == "| `none` | 50% |  | 180 |  | 50% | 0.0% | 0.00 | 0.0000 |  |"


@pytest.mark.parametrize(
    ("effect", "said"), [(3.0, "1.00"), (2.4, "0.80"), (2.3, "0.77, no conclusion"), (0.0, "0.00, no conclusion")]
)
def test_a_placebos_row_has_its_share_of_the_dose(effect: float, said: str) -> None:
    policy, placebo = [Figures(1.0, 80.0, 100.0, 10.0, 3.0, 0.0)], [Figures(1.0, 80.0, 100.0, 10.0, effect, 0.0)]
    assert row("nowait.placebo", placebo, policy, policy).endswith(f" {said} |")
    idle = [Figures(1.0, 80.0, 100.0, 0.0, 0.0, 0.0)]
    assert row("nowait.placebo", placebo, idle, idle).endswith("unknown |")


def test_figures_are_read_from_the_response_and_an_error_is_not_counted_as_wrong() -> None:
    items = read("countdown:hard", 1)
    interventions = {"0": {"fired": 3, "effect": 0.5}, "1": {"fired": 4, "effect": 0.25}}
    summary = {"reasoning_tokens": 7, "interventions": interventions}
    unit = Unit(items[0].id, 0, "nowait")
    answer = Answer((Choice("no expression", "", "length"),), tokens=9, forkpoint=summary)
    assert figures({unit: answer}, items, "nowait") == [Figures(0.0, 7.0, 9.0, 7.0, 0.75, 1.0)]
    with pytest.raises(ValueError, match=r"nowait, hard-.*: too long"):
        figures({unit: Answer(error="too long")}, items, "nowait")
