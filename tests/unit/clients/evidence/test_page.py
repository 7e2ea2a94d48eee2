"""The page of evidence says what it covers, and what is missing."""

from typing import Any

from forkpoint_clients.evidence.page import page

STATE: dict[str, Any] = {
    "settings": {
        "budget_tokens": 100_000, "note": "Q4_K_M, dequantised to bfloat16.", "data": "q.jsonl", "questions": 4,
    },
    "command": "forkpoint evidence --data q.jsonl", "data": {"questions": 9, "digest": "ab"}, "tokens": 6000,
    "seconds": 1800.0,
}  # fmt: skip
PROFILE = {
    "fork_threshold": 0.691, "interval": [0.582, 0.833], "tokens": 8270, "answers": 30, "prompts": 30,
    "share_below_0_01": 0.41,
}  # fmt: skip


def test_what_is_missing_is_said() -> None:
    text = page("m", STATE, PROFILE, None, None)
    assert "Covers calibration. **Not finished: findings, arms.**" in text
    assert "6,000 of 100,000 tokens were generated, in 0.5 hours. Q4_K_M, dequantised to bfloat16." in text
    assert "Fork threshold **0.691 nats** [0.582, 0.833]" in text
    assert "41% of the tokens are below 0.01 nats" in text
    assert "digest ab" in text


def test_findings_are_a_section_and_growth_is_said() -> None:
    text = page("m", {**STATE, "grown": 90}, None, "# Published findings on the model `m`\n\n## a\n\nText.\n", None)
    assert "## Published findings on the model `m`\n\n### a" in text
    assert "started with 4 questions and were continued to 90" in text


def test_arms() -> None:
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6, "error": 0.05, "p": None, "unseen": 0.0}
    arm = {"correct": estimate, "tokens": {**estimate, "value": 200.0}, "dose": None}
    results = {
        "interim": True, "answered": 3, "asked": 8, "questions": 2, "scorer": "gym",
        "configuration": {"data": {"source": "gym:chain_sum"}},
        "arms": [{"arm": "none", **arm}, {"arm": "nowait", **arm, "dose": 0.0123}],
        "differences": [{"arm": "nowait", "correct": {**estimate, "value": -0.1}, "correct_p_holm": None}],
        "warnings": ["2 questions are few."],
    }  # fmt: skip
    text = page("m", STATE, None, None, results)
    assert "**Not complete**: 3 of 8 answers" in text
    assert "| `none` | 50.0% [40.0, 60.0] | 200 [0, 1] | – |  |  |" in text
    assert "| `nowait` | 50.0% [40.0, 60.0] | 200 [0, 1] | 0.012 | −10.0" in text
    assert "- 2 questions are few." in text
