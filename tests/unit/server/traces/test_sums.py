"""What is counted of an answer is the same whether its records come one by one or summed by the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from forkpoint_policies.kernel.record_flags import DRAFT, FORCED, IN_REASONING, LEFT_ALONE, REFUSED, RULES_SHIFT
from forkpoint_policies.worker.record_sums import add_up, decode_sums
from forkpoint_policies.worker.records import alternatives_type, encode, num_columns, row_type
from forkpoint_policies.worker.summed_rows import SUM_STEPS, TAIL_STEPS, SummedRows
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.summary import count_in_metrics, summary
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.traces.trace import Trace
from tests.unit.server.requests.recorded import THRESHOLD, context_of

RULES = 2
OPENED: list[Receiver] = []
NO_DETAILS = np.zeros((0, num_columns(alternatives_type(0))), np.int32)
Rows = NDArray[np.int32]


def new_receiver() -> Receiver:
    """One that is stopped at the end of the test."""
    OPENED.append(Receiver())
    return OPENED[-1]


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    while OPENED:
        asyncio.run(OPENED.pop().stop())


@dataclass
class Choice:
    """A choice as a worker runs it, with drafts, and what it has committed."""

    handle: int
    random: np.random.Generator
    depth: int
    committed: list[int] = field(default_factory=list)

    def step(self) -> Rows:
        """The rows of its next step: after what is committed, and after each draft; some of these are accepted."""
        drafts = self.random.integers(0, 2, self.random.integers(0, self.depth + 1)).tolist()
        rows = np.zeros(1 + len(drafts), row_type(RULES))
        rows["handle"], rows["position"] = self.handle, len(self.committed) + np.arange(len(rows))
        rows["last_token"] = [*(self.committed[-1:] or [0]), *drafts]
        bits = [IN_REASONING, LEFT_ALONE, FORCED, REFUSED, 1 << RULES_SHIFT, 2 << RULES_SHIFT]
        rows["flags"] = (self.random.random((len(rows), len(bits))) < 0.3) @ np.array(bits)
        rows["flags"][1:] |= DRAFT
        rows["entropy"] = self.random.exponential(0.7, len(rows))
        rows["effect"] = self.random.random((len(rows), RULES))
        return rows.view(np.int32).reshape(len(rows), -1)

    def commit(self, rows: Rows) -> None:
        """Sample a token at each row, up to the first that is not the next draft."""
        for drafted in [*rows[1:, 2].tolist(), None]:
            self.committed.append(int(self.random.integers(0, 2)))
            if self.committed[-1] != drafted:
                return


def steps_of(choices: list[Choice], count: int, again: float = 0.0, absent: float = 0.0) -> Iterator[Rows]:
    """Steps of choices side by side. `again`: how often one evaluates its position again; `absent`: how often it is
    not in a step."""
    for _ in range(count):
        parts = []
        for choice in choices:
            if choice.random.random() < absent:
                continue
            rows = choice.step()
            parts.append(rows)
            if choice.random.random() >= again:
                choice.commit(rows)
        yield np.concatenate(parts) if parts else np.zeros((0, num_columns(row_type(RULES))), np.int32)


def send_one_by_one(receiver: Receiver, steps: Iterable[Rows]) -> None:
    for rows in steps:
        receiver.read(encode(rows, NO_DETAILS, RULES, 0.001))


def send_sums(receiver: Receiver, steps: Iterable[Rows]) -> int:
    """Sends what the worker would; the number of bytes."""
    summed, size = SummedRows(THRESHOLD), 0
    for rows in [*steps, None]:
        if rows is not None:
            summed.add(rows, RULES, 0.001)
        message = summed.take(everything=rows is None)
        if message is not None:
            frames = message.encode()
            size += sum(map(len, frames))
            receiver.read(frames)
    assert not len(summed)
    return size


def traces_of(receiver: Receiver, choices: list[Choice], cut: int = 0) -> list[Trace]:
    """Traces with the tokens of the choices; each ends `cut` tokens earlier than the worker's records."""
    traces = [receiver.open(0, 0, THRESHOLD, 0) for _ in choices]
    for trace, choice in zip(traces, choices, strict=True):
        assert trace.handle == choice.handle
        trace.tokens += choice.committed[: len(choice.committed) - cut]
        trace.ended = True
    return traces


def both(steps: list[Rows], choices: list[Choice], cut: int = 0) -> tuple[RequestContext, RequestContext]:
    """The requests of the same answers: with records one by one, and with sums."""
    found = []
    for label, send in (("single", send_one_by_one), ("summed", send_sums)):
        receiver = new_receiver()
        traces = traces_of(receiver, choices, cut)
        send(receiver, steps)
        context = context_of({"temperature": 0.5}, {"observe": {}}, label=label, receiver=receiver, traces=traces)
        found.append(replace(context, settled=True, model_name="sums"))
    return found[0], found[1]


def series(label: str) -> dict[tuple[str, ...], float]:
    """All series of a policy but its label."""
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()) if key != "policy")): (
            sample.value
        )
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.labels.get("policy") == label and not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("depth", "again", "absent"), [(0, 0.0, 0.0), (3, 0.0, 0.0), (3, 0.1, 0.0), (2, 0.05, 0.05)])
def test_sums_give_the_same_figures_and_metrics(seed: int, depth: int, again: float, absent: float) -> None:
    random = np.random.default_rng(seed)
    choices = [Choice(handle, random, depth) for handle in (1, 2, 3)]
    steps = list(steps_of(choices, int(random.integers(1, 3 * SUM_STEPS)), again, absent))
    single, summed = both(steps, choices, cut=int(random.integers(0, TAIL_STEPS // 2)))
    before = {label: series(label) for label in ("single", "summed")}
    assert summary(summed) == summary(single)
    assert summary(summed)["complete"]
    for context in (single, summed):
        count_in_metrics(context)
    more = [
        {key: value - before[label].get(key, 0.0) for key, value in series(label).items()}
        for label in ("single", "summed")
    ]
    assert more[0] == pytest.approx(more[1], abs=1e-9)
    assert any(value for key, value in more[0].items() if key[0].startswith("forkpoint_token_entropy"))
    for one, other in zip(single.traces, summed.traces, strict=True):
        assert (one.sums(THRESHOLD).counts == other.sums(THRESHOLD).counts).all()
        assert one.sums(THRESHOLD).totals == pytest.approx(other.sums(THRESHOLD).totals)


def test_most_rows_are_summed() -> None:
    choices = [Choice(handle, np.random.default_rng(0), 0) for handle in range(1, 9)]
    steps = list(steps_of(choices, 500))
    receiver = new_receiver()
    traces = traces_of(receiver, choices)
    size = send_sums(receiver, steps)
    assert size / (8 * 500) < 4.0, "bytes a token, of 40"
    assert [len(trace.profile().position) for trace in traces] == [TAIL_STEPS] * 8
    assert [trace.num_missing for trace in traces] == [0] * 8


def test_a_lost_message_is_counted_as_missing() -> None:
    choice = Choice(1, np.random.default_rng(0), 0)
    steps = list(steps_of([choice], 2 * SUM_STEPS))
    receiver, summed = new_receiver(), SummedRows(THRESHOLD)
    (trace,) = traces_of(receiver, [choice])
    lost = 0
    for number, rows in enumerate([*steps, None]):
        if rows is not None:
            summed.add(rows, RULES, 0.001)
        message = summed.take(everything=rows is None)
        if message is not None and number < 2 * SUM_STEPS - 1:
            lost += message.num_tokens
        elif message is not None:
            receiver.read(message.encode())
    assert lost == SUM_STEPS - TAIL_STEPS
    assert trace.num_missing == lost
    assert trace.sums(THRESHOLD).tokens.sum() == len(choice.committed) - lost


def test_sums_beyond_the_end_count_as_missing() -> None:
    """A client that left long ago: which of the summed tokens it has cannot be known any more."""
    choice = Choice(1, np.random.default_rng(0), 0)
    steps = list(steps_of([choice], 3 * SUM_STEPS))
    single, summed = both(steps, [choice], cut=SUM_STEPS)
    assert summary(single)["complete"]
    assert not summary(summed)["complete"]
    (trace,) = summed.traces
    assert trace.sums(THRESHOLD).tokens.sum() + trace.num_missing == len(trace.tokens)
    assert 0 < trace.num_missing <= SUM_STEPS


def test_drafts_before_a_lost_step_are_missing() -> None:
    """Which of them were accepted is known only from the step that follows."""
    choice = Choice(1, np.random.default_rng(3), 3)
    steps = list(steps_of([choice], SUM_STEPS))
    lost = {20, 21, 50}
    single, summed = both([rows for number, rows in enumerate(steps) if number not in lost], [choice])
    (one,), (other,) = single.traces, summed.traces
    assert 0 < one.num_missing <= other.num_missing <= one.num_missing + 3 * len(lost)
    assert other.sums(THRESHOLD).tokens.sum() + other.num_missing == len(other.tokens)


def test_a_choice_that_is_not_in_a_step_is_sent_in_whole() -> None:
    one, other = Choice(1, np.random.default_rng(0), 0), Choice(2, np.random.default_rng(1), 0)
    summed = SummedRows(THRESHOLD)
    for rows in steps_of([one, other], 20):
        summed.add(rows, RULES, 0.001)
        assert summed.take() is None
    for rows in steps_of([one], 1):
        summed.add(rows, RULES, 0.001)
    message = summed.take()
    assert message is not None
    assert message.places.tolist() == [[2, 0, 12, 12]]
    rows = np.frombuffer(message.rows, np.int32).reshape(-1, num_columns(row_type(RULES)))
    assert rows[:, :2].tolist() == [[2, position] for position in range(12, 20)]
    assert len(summed) == 21
    assert summed.take() is None


def test_batches_that_alternate_are_not_taken_for_ended() -> None:
    """A pipeline of two stages has two batches at once."""
    one, other = Choice(1, np.random.default_rng(0), 0), Choice(2, np.random.default_rng(1), 0)
    summed = SummedRows(THRESHOLD, absent=2)
    for _ in range(40):
        for choice in (one, other):
            for rows in steps_of([choice], 1):
                summed.add(rows, RULES, 0.001)
            assert summed.take() is None


def test_rows_of_more_rules_widen_what_is_there() -> None:
    summed, narrow = SummedRows(THRESHOLD), np.zeros((1, num_columns(row_type(1))), np.int32)
    narrow[0, :2] = 1, 0
    summed.add(narrow, 1, None)
    for rows in steps_of([Choice(1, np.random.default_rng(0), 0, [0])], TAIL_STEPS):
        summed.add(rows, RULES, 0.001)
    message = summed.take(everything=True)
    assert message is not None
    assert message.places.tolist() == [[1, 0, 1, 1]]
    assert message.rules == RULES
    assert len(message.seconds) == TAIL_STEPS
    read = decode_sums(message.encode())
    assert (read.sums.counts == message.sums.counts).all()
    assert read.num_tokens == 1 + TAIL_STEPS


def test_what_is_no_sums_is_refused() -> None:
    summed = SummedRows(THRESHOLD)
    for rows in steps_of([Choice(1, np.random.default_rng(0), 0)], 20):
        summed.add(rows, RULES, 0.001)
    message = summed.take(everything=True)
    assert message is not None
    frames = message.encode()
    for number in range(6):
        with pytest.raises(ValueError, match="sums"):
            decode_sums([*frames[:number], frames[number][:-2], *frames[number + 1 :]])


def test_sums_of_parts_with_fewer_rules_add_up() -> None:
    receiver = new_receiver()
    choice = Choice(1, np.random.default_rng(0), 0)
    steps = list(steps_of([choice], 30))
    (trace,) = traces_of(receiver, [choice])
    send_sums(receiver, steps)
    sums = trace.sums(THRESHOLD)
    fewer = type(sums)(sums.counts[:, :-1], sums.totals[:, :-1])
    both_parts = add_up([fewer, sums])
    assert both_parts.fired[0].tolist() == [2 * int(sums.fired[0, 0]), int(sums.fired[0, 1])]
    assert both_parts.tokens.sum() == 60


async def test_an_answer_waits_for_its_sums() -> None:
    receiver = new_receiver()
    choice = Choice(1, np.random.default_rng(0), 0)
    steps = list(steps_of([choice], 30))
    (trace,) = traces_of(receiver, [choice])
    trace.is_summed = True
    waiting = asyncio.create_task(receiver.settle_sums([trace]))
    await asyncio.sleep(0)
    assert not waiting.done()
    send_sums(receiver, steps)
    await asyncio.wait_for(waiting, 0.5)
    assert not trace.num_missing
