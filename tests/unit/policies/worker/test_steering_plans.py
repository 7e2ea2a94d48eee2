"""Plans of steering: which tokens they name, and what stays when requests come and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from forkpoint_policies.compile.program import Curve, Shape
from forkpoint_policies.kernel.native.columns import R_ENTROPY, R_FLAGS, R_POSITION, RECORD_COLUMNS
from forkpoint_policies.kernel.record_flags import RULES_SHIFT
from forkpoint_policies.worker.steering.plans import PlannedRule, Plans

LENGTH = 16
ONE, THREE = PlannedRule(5, Curve(Shape.CONSTANT, 2.0), 1), PlannedRule(7, Curve(Shape.CONSTANT, -1.0), 3)


def record(*rows: tuple[int, Sequence[int]]) -> Tensor:
    """A step's record: of each row its position, and the rules that fired."""
    found = torch.zeros(len(rows), RECORD_COLUMNS, dtype=torch.int32)
    for number, (position, fired) in enumerate(rows):
        found[number, R_POSITION] = position
        found[number, R_FLAGS] = sum(1 << rule for rule in fired) << RULES_SHIFT
    return found


def plans_of(rules: Mapping[int, PlannedRule], shared: int = 0) -> Plans:
    plans = Plans(4, LENGTH, torch.device("cpu"))
    plans.add(1, handle=11, num_shared_tokens=shared, rules=rules)
    return plans


def rows_of(plans: Plans, slot: int = 1) -> list[int]:
    """The row of each token after the prompt's end."""
    rows, _ = plans.rows_of(torch.full((LENGTH,), slot), torch.arange(LENGTH))
    return [int(row) for row in rows]


def test_the_token_drawn_where_a_rule_fires_is_read_with_its_vector() -> None:
    plans = plans_of({0: ONE, 2: THREE})
    plans.decide(torch.tensor([0, 1]), record((4, [0]), (4, [0])))
    plans.decide(torch.tensor([1]), record((8, [2])))
    assert rows_of(plans) == [0] * 4 + [5] + [0] * 3 + [7] * 3 + [0] * 5
    rows, scale = plans.rows_of(torch.tensor([1, 1, 1, 0, -1, 3]), torch.tensor([4, 9, -1, 4, 4, 4]))
    assert rows.tolist() == [5, 7, 0, 0, 0, 0]
    assert scale.tolist() == [2.0, -1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_scale_that_depends_on_the_position_of_the_token() -> None:
    plans = plans_of({0: PlannedRule(row=5, scale=Curve(Shape.LINEAR, 1.0, 3.0, 4.0), num_tokens=3)})
    plans.decide(torch.tensor([1]), record((2, [0])))
    _, scale = plans.rows_of(torch.full((6,), 1), torch.arange(6))
    assert scale.tolist() == [0.0, 0.0, 2.0, 2.5, 3.0, 0.0]


def test_a_scale_that_depends_on_the_entropy_where_the_rule_fired() -> None:
    by_entropy = PlannedRule(5, Curve(Shape.POWER, 1.0, -2.0, 2.0), num_tokens=2)
    plans = plans_of({0: by_entropy, 2: ONE})
    rows = record((2, [0]), (7, [0]), (8, [2]), (11, [0]))
    rows.view(torch.float32)[:, R_ENTROPY] = torch.tensor([0.5, 2.0, 9.0, 0.0])
    plans.decide(torch.full((4,), 1), rows)

    def scales(slot: int) -> list[float]:
        row_of, scale = plans.rows_of(torch.full((LENGTH,), slot), torch.arange(LENGTH))
        return (scale * (row_of > 0)).tolist()

    expected = [0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, -7.0, 2.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert scales(1) == expected
    plans.remove(1)
    plans.add(1, handle=12, num_shared_tokens=0, rules={0: ONE})
    plans.add(2, handle=11, num_shared_tokens=0, rules={0: by_entropy, 2: ONE})
    assert scales(2) == expected


def test_from_here_the_token_before_is_the_first_one() -> None:
    plans = plans_of({0: PlannedRule(9, Curve(Shape.LINEAR, 0.0, 10.0, 10.0), 2, from_here=True), 2: ONE})
    plans.decide(torch.tensor([1]), record((4, [0])))
    assert rows_of(plans) == [0] * 3 + [9, 9] + [0] * 11
    _, scale = plans.rows_of(torch.full((6,), 1), torch.arange(6))
    assert scale.tolist() == [0.0, 0.0, 0.0, 3.0, 4.0, 0.0]
    plans.decide(torch.tensor([1]), record((4, [0, 2])))
    assert rows_of(plans)[3:6] == [9, 5, 0]
    plans.decide(torch.tensor([1]), record((LENGTH - 1, [0])))
    assert rows_of(plans)[-3:] == [0, 9, 9]


def test_the_latest_decision_counts_and_at_one_position_the_last_rule() -> None:
    plans = plans_of({0: ONE, 2: THREE})
    plans.decide(torch.tensor([1]), record((3, [2])))
    plans.decide(torch.tensor([1]), record((4, [0])))
    assert rows_of(plans)[3:6] == [7, 5, 7]
    plans.decide(torch.tensor([1]), record((8, [0, 2])))
    assert rows_of(plans)[8] == 7


def test_nothing_is_planned_by_rows_from_which_nothing_is_sampled_or_past_the_end() -> None:
    plans = plans_of({0: THREE})
    plans.decide(torch.tensor([1, -1]), record((-1, [0]), (2, [0])))
    assert rows_of(plans) == [0] * LENGTH
    plans.decide(torch.tensor([1]), record((LENGTH - 1, [0])))
    assert rows_of(plans) == [0] * (LENGTH - 1) + [7]


def test_of_several_decisions_at_one_position_the_last_counts() -> None:
    """A row of a prompt that is computed in pieces is at the same position as the one from which a token is drawn."""
    plans = plans_of({0: ONE, 2: THREE})
    plans.decide(torch.tensor([1]), record((3, [2])))
    plans.decide(torch.tensor([1]), record((5, [0])))
    plans.decide(torch.tensor([1]), record((5, [])))
    assert rows_of(plans) == [0] * 3 + [7] * 3 + [0] * 10
    plans.decide(torch.tensor([1]), record((3, [0])))
    assert rows_of(plans) == [0] * 3 + [5] + [0] * 12


def test_shared_tokens_count_as_generated() -> None:
    plans = plans_of({0: ONE}, shared=3)
    plans.decide(torch.tensor([1]), record((3, [0])))
    assert rows_of(plans)[0] == 5


def test_a_preempted_request_gets_its_plan_back_in_another_slot_and_nobody_else_does() -> None:
    plans = plans_of({0: ONE})
    plans.decide(torch.tensor([1]), record((2, [0])))
    plans.remove(1)
    assert not plans.in_use
    assert rows_of(plans) == [0] * LENGTH
    plans.add(1, handle=12, num_shared_tokens=0, rules={0: ONE})
    assert rows_of(plans) == [0] * LENGTH
    plans.add(2, handle=11, num_shared_tokens=0, rules={0: ONE})
    assert rows_of(plans, slot=2)[2] == 5
    assert plans.rows == {5}
