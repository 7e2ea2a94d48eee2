"""The list of recent requests: rows, filters and pages."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import InputError
from forkpoint_policies.worker.records import RULES_SHIFT
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.listing import Entry, Filters, Page, list_requests, merge_pages, page_after
from forkpoint_server.requests.recent import RecentTraces
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.vocabularies import tokens
from tests.unit.server.requests.recorded import THRESHOLD, add_record, context_of

SUPPRESS = {"suppress": {"words": ["wait"]}}


def request(name: str, *do: dict[str, Any], reason: str = "stop", **fields: Any) -> RequestContext:
    """A request of four tokens, two of them forks, whose policy changed a quarter of a token at one of them."""
    context = context_of(*do, engine_id=name, finish_reasons=[reason], **fields)
    trace = Trace(7, 0, tokens=tokens("wait|so|let|wait"), prompt=tokens("let|so"))
    for position, nats in enumerate((THRESHOLD + 1, 0.1, THRESHOLD + 0.5)):
        fired = 1 << RULES_SHIFT if position == 0 else 0
        add_record(trace, position, nats, fired, (0.25 if position == 0 else 0.0, 9.0))  # one rule, in a batch of two
    context.traces.append(trace)
    return context


def page(recent: RecentTraces, limit: int = 50, after: str | None = None, **filters: Any) -> dict[str, Any]:
    return list_requests([*recent.running(), *recent.stored()], Filters(**filters), limit, after)


def names(found: dict[str, Any]) -> list[str]:
    return [row["id"] for row in found["data"]]


def end(recent: RecentTraces, context: RequestContext) -> None:
    with recent.track(context):
        context.response_id = context.engine_id


@pytest.fixture
def recent() -> RecentTraces:
    return RecentTraces()


def test_a_row(recent: RecentTraces) -> None:
    end(recent, request("one", SUPPRESS, prompt_start="Use 3 and 4", created=12.3456, model_name="m"))
    (row,) = page(recent)["data"]
    assert row["seconds"] >= 0
    assert {name: value for name, value in row.items() if name not in ("seconds", "digest")} == {
        "object": "trace.row", "id": "one", "created": 12.346, "running": False, "model": "m", "policy": "it",
        "shadow": False, "experiment": None, "arm": None, "prompt": "Use 3 and 4", "answers": 1, "tokens": 4,
        "forks": 2, "forks_share": 0.6667, "effect": 0.25, "finish_reasons": ["stop"],
    }  # fmt: skip


def test_without_a_body_the_prompt_is_what_the_model_sees(recent: RecentTraces) -> None:
    end(recent, request("one"))
    assert page(recent)["data"][0]["prompt"] == "letso"


def test_running_ones_come_first_and_have_no_figures_yet(recent: RecentTraces) -> None:
    end(recent, request("ended"))
    context = request("runs", reason="stop")
    context.finish_reasons.clear()
    with recent.track(context), recent.track(request("unknown to vLLM", inactive=True)):
        found = page(recent)
        assert names(found) == ["runs", "ended"]
        row = found["data"][0]
        assert (row["running"], row["tokens"], row["forks"], row["effect"], row["seconds"]) == (
            True,
            4,
            None,
            None,
            None,
        )
        assert names(page(recent, running=True)) == ["runs"]
        assert names(page(recent, running=False)) == ["ended"]


def test_pages_follow_each_other(recent: RecentTraces) -> None:
    for number in range(5):
        end(recent, request(f"r{number}"))
    first = page(recent, limit=2)
    assert (names(first), first["has_more"], first["first_id"], first["last_id"]) == (["r4", "r3"], True, "r4", "r3")
    second = page(recent, limit=2, after="r3")
    assert (names(second), second["has_more"]) == (["r2", "r1"], True)
    last = page(recent, limit=2, after="r1")
    assert (names(last), last["has_more"]) == (["r0"], False)
    assert page(recent, after="r0") == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False
    }  # fmt: skip
    with pytest.raises(InputError, match="no recent request"):
        page(recent, after="r9")


def test_filters(recent: RecentTraces) -> None:
    end(recent, request("named", SUPPRESS, prompt_start="Use THREE"))
    end(recent, request("plain", label="none", reason="length"))
    assert names(page(recent, policy="it")) == ["named"]
    assert names(page(recent, policy="none")) == ["plain"]
    assert names(page(recent, finish_reason="length")) == ["plain"]
    assert names(page(recent, text="three")) == ["named"]
    assert names(page(recent, experiment="x")) == names(page(recent, arm="x")) == []


def test_a_server_that_stores_no_traces_lists_none() -> None:
    recent = RecentTraces(max_tokens=0)
    end(recent, request("ended"))
    with recent.track(request("runs")):
        assert page(recent)["data"] == []


def test_the_pages_of_several_servers_make_one_list() -> None:
    """Whatever the size of a page: running requests first, then those that ended last, also in the same second."""
    servers = [RecentTraces(), RecentTraces()]
    for number in range(9):
        end(servers[number % 2], request(f"r{number}", created=100.0 + number // 2))
    runs = request("runs")
    with servers[1].track(runs):
        entries: list[list[Entry]] = [[*recent.running(), *recent.stored()] for recent in servers]
        whole = merge_pages([page_after(one, Filters(), 50, None) for one in entries], 50)
        assert names(whole)[0] == "runs"
        assert len(set(names(whole))) == 10
        assert not whole["has_more"]
        for limit in range(1, 11):
            found: list[str] = []
            after = None
            while True:
                pages = [page_after(one, Filters(), limit, after) for one in entries]
                merged = merge_pages(pages, limit)
                found += names(merged)
                if not merged["has_more"]:
                    break
                after = _position_of(merged["last_id"], pages)
            assert found == names(whole), limit


def _position_of(name: str, pages: list[Page]) -> Any:
    return next(place for page in pages for place in page.positions if place.id == name)
