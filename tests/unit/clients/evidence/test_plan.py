"""How a budget of tokens is spent."""

from forkpoint_clients.evidence.plan import ARMS, Budget, needed_questions


def test_calibration_takes_a_twentieth_within_bounds() -> None:
    assert [Budget(tokens).calibration for tokens in (20_000, 400_000, 10**7)] == [5_000, 20_000, 50_000]


def test_findings_grow_to_what_they_need_within_their_share() -> None:
    budget = Budget(1_000_000)  # findings and calibration: 550,000
    assert budget.questions_of_findings(40, 100_000, 50_000, [60, 120], 500) == 120
    assert budget.questions_of_findings(40, 100_000, 50_000, [60, 900], 500) == 200  # 40 * 500,000 / 100,000
    assert budget.questions_of_findings(40, 100_000, 50_000, [900], 150) == 150
    assert budget.questions_of_findings(40, 100_000, 50_000, [], 500) == 40
    assert budget.questions_of_findings(40, 600_000, 50_000, [900], 500) == 40


def test_arms_get_what_is_left() -> None:
    budget = Budget(1_000_000)
    assert budget.questions_of_arms(200, 580_000, 500) == 420_000 // (200 * len(ARMS))
    assert budget.questions_of_arms(200, 580_000, 50) == 50
    assert budget.questions_of_arms(200, 1_000_000, 50) == 10


def test_only_undecided_findings_need_more() -> None:
    found = [("undecided", 90), ("undecided", None), ("reproduced", 50)]
    assert needed_questions({"findings": [{"verdict": word, "n_needed": number} for word, number in found]}) == [90]
