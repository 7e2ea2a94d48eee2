"""Policies that sample and vote do what their authors' code does, at its defaults: scripted answers are replayed.

The expected values are computed here by the authors' rules, in their order of evaluation; each test says from where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from forkpoint_policies.library import LIBRARY
from tests.unit.server.branching.scripted_answers import Said, sampling
from tests.unit.server.branching.stub_engine import StubTree


def replay(name: str, answers: Sequence[Said], **options: Any) -> tuple[int, str | None]:
    """How many answers were sampled, and what the returned one says."""
    tree: StubTree = sampling(LIBRARY[name].policy, answers, **options)
    nodes = tree.run()
    (chosen,) = (node.number for node in nodes if node.chosen)
    return len(nodes), answers[chosen][1]


def scripted(seed: int, number: int = 40) -> list[Said]:
    """Answers of which some agree more than others, by the seed."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(4, random.choice([0.2, 0.6, 2.0])))
    return [(1, str(said)) for said in random.choice(4, number, p=shares)]


@pytest.mark.parametrize("seed", range(12))
def test_self_consistency_is_the_commonest_of_forty(seed: int) -> None:
    """arXiv:2203.11171: the commonest; a tie as `Counter.most_common` breaks it, to the one that came first."""
    answers = scripted(seed)
    assert LIBRARY["self-consistency"].parameters["answers"].default == 40
    assert replay("self-consistency", answers)[1] == Counter(said for _, said, *_ in answers).most_common(1)[0][0]


@pytest.mark.parametrize("seed", range(12))
def test_adaptive_consistency_stops_where_the_authors_loop_does(seed: int) -> None:
    """Pranjal2041/AdaptiveConsistency, `AC.eval_loop` with BetaStoppingCriteria(0.95) and max_gens 40."""
    answers = scripted(seed)
    seen: list[str | None] = []
    for _, said, *_ in answers:
        seen.append(said)
        (_, first), *others = Counter(seen).most_common(2)
        second = others[0][1] if others else 0
        upper, whole = (quad(lambda x, a=first, b=second: x**a * (1 - x) ** b, low, 1)[0] for low in (0.5, 0))
        if upper / whole >= 0.95:
            break
    assert replay("adaptive-consistency", answers) == (len(seen), Counter(seen).most_common(1)[0][0])


def windowed(answers: Sequence[Said]) -> tuple[int, str | None]:
    """Yiwei98/ESC, `early_stop_gsm8k.py`: sc_num 40, slice 5; a window that agrees is the answer by itself."""
    said = [one[1] for one in answers]
    for index in range(40 // 5):
        window = said[index * 5 : index * 5 + 5]
        if len(set(window)) == 1:
            return index * 5 + 5, window[0]
    return 40, Counter(said).most_common(1)[0][0]


@pytest.mark.parametrize("seed", range(12))
def test_early_stop_consistency_stops_after_the_authors_window(seed: int) -> None:
    answers = scripted(seed)
    assert replay("early-stop-consistency", answers) == windowed(answers)


def test_a_window_that_agrees_outweighs_earlier_votes() -> None:
    answers: list[Said] = [(1, said) for said in "1111211112" + "33333" + "1" * 25]
    assert windowed(answers) == (15, "3")
    assert replay("early-stop-consistency", answers) == (15, "3")


@pytest.mark.parametrize("seed", range(12))
def test_short_m_is_the_majority_of_the_three_shortest_reasonings(seed: int) -> None:
    """arXiv:2505.17813: of k parallel answers, those whose reasoning ends first; ties go to the shortest of them."""
    random = np.random.default_rng(seed)
    lengths = random.choice(np.arange(1, 36, 3), 8, replace=False).tolist()
    answers: list[Said] = [(length, str(random.integers(3)), int(random.integers(6))) for length in lengths]
    shortest = sorted(answers, key=lambda one: one[0])[:3]
    expected = Counter(said for _, said, *_ in shortest).most_common(1)[0][0]
    assert replay("short-m", answers) == (8, expected)


def test_first_finish_is_the_first_text_to_end() -> None:
    """arXiv:2505.18149: the first trace to reach its end, whatever the length of its reasoning."""
    assert replay("first-finish", [(9, "1"), (2, "2", 20), (5, "3"), (7, "4")]) == (4, "3")


@pytest.mark.parametrize("seed", range(12))
def test_self_certainty_has_the_authors_borda_votes(seed: int) -> None:
    """backprop07/Self-Certainty, `voting_from_list.py` with power 0.5: of N, rank 0 has N ^ p votes, the last 1."""
    random = np.random.default_rng(seed)
    answers: list[Said] = [(1, None if said == 4 else str(said)) for said in random.integers(5, size=64)]
    confidence = random.permutation(64) / 8
    order = sorted(range(64), key=lambda one: float(confidence[one]), reverse=True)
    own = {number: (64 - rank) ** 0.5 for rank, number in enumerate(order)}
    votes = [0.0] * 64
    for number, (_, said, *_) in enumerate(answers):
        same = next((other for other in range(number) if said is not None and answers[other][1] == said), number)
        votes[same] += 0.0 if said is None else own[number]
    best = votes.index(max(votes))
    sureness = {number: float(value) for number, value in enumerate(confidence)}
    assert replay("self-certainty", answers, certainty=sureness) == (64, answers[best][1])
