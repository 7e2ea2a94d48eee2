"""The console's pages in a real browser, on a real server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.processes.forkpoint_server import ADMIN_KEY, API_KEY, Server

from .conftest import PageLog
from .console_page import PROMPT, generate, long_trace, visit_page
from .viewer_page import check_shows, run_of, settled, shown, trace_of, visit

PAGES = ("playground", "traces", "policies", "experiments", "live", "runs", "calibration")
LENGTH = 32_000
FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def test_the_navigation_by_the_keys(page: Page, server: Server) -> None:
    visit(page, server)
    for name in PAGES[1:]:
        link = page.get_by_role("navigation").get_by_role("link", name=name.capitalize())
        link.focus()
        page.keyboard.press("Enter")
        expect(page.locator(f"#page-{name}")).to_be_visible()
        expect(link).to_have_attribute("aria-current", "page")
        expect(page.locator(".page:visible")).to_have_count(1)
    page.go_back()
    expect(page.locator("#page-runs")).to_be_visible()
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    expect(page.locator("#page-runs")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(page: Page, server: Server, scheme: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    generate(server, policy="nowait")
    for name in (*PAGES, "policies?edit=nowait", "experiments?new"):
        page.goto(f"{server.url}/forkpoint#/{name}")
        expect(page.locator(f"#page-{name.partition('?')[0]} h1")).to_be_visible()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name


def test_traces_are_listed_filtered_and_compared(page: Page, server: Server) -> None:
    plain, changed = generate(server), generate(server, policy="nowait")
    visit_page(page, server, "traces")
    row = page.locator(f"tr[data-key='{changed}']")
    expect(row).to_contain_text("nowait")
    expect(row).to_contain_text(PROMPT)
    listed = {one["id"]: one for one in httpx.get(f"{server.api}/forks").json()["data"]}
    expect(row.locator("td.number").nth(0)).to_have_text(str(listed[changed]["tokens"]))
    expect(row.locator(".tag")).to_have_text("length")
    expect(page.locator("tbody tr").first).to_have_attribute("data-key", changed)
    page.locator("#page-traces select").first.select_option("nowait")
    expect(page.locator(f"tr[data-key='{plain}']")).to_have_count(0)
    expect(row).to_be_visible()
    page.locator("#page-traces select").first.select_option("")
    later = generate(server, policy="observe")
    expect(page.locator("tbody tr").first).to_have_attribute("data-key", later)  # it came without a reload
    page.get_by_label(f"Select {plain}").check()
    page.get_by_label(f"Select {changed}").check()
    page.get_by_role("button", name="Compare").click()
    settled(page)
    check_shows(shown(page, "A"), trace_of(server, plain))
    check_shows(shown(page, "B"), trace_of(server, changed))
    page.go_back()
    row.focus()
    page.keyboard.press("Enter")
    expect(run_of(page).get_by_role("heading")).to_contain_text("nowait")


def test_a_policy_is_written_from_another_checked_and_saved(page: Page, server: Server, page_log: PageLog) -> None:
    visit_page(page, server, "policies")
    card = page.locator("[data-policy=nowait]")
    policy = httpx.get(f"{server.api}/policies/nowait").json()
    expect(card).to_contain_text(policy["description"])
    expect(card).to_contain_text(policy["caution"])
    expect(card).to_contain_text(policy["source"])
    expect(page.locator("[data-policy='nowait.placebo']")).to_have_count(0)
    card.get_by_role("link", name="Start from it").click()
    area = page.locator("#policy-text")
    expect(area).to_have_value(re.compile("suppress"))
    found = httpx.post(f"{server.api}/policies/validate", json={"policy": "nowait"}).json()
    matched = len(found["rules"][0]["token_ids"])
    expect(page.locator("#policy-text-verdict")).to_contain_text(f"matches {matched} tokens")
    expect(page.locator(".matched-token")).to_have_count(len(found["rules"][0]["tokens"]))
    area.fill("rules:\n  - when: {entropy_above: fork}\n    do: {suppress: {connectors: [reflection], bi")
    area.press("End")
    area.press_sequentially("a")
    expect(page.locator("#policy-text-offers li").first).to_contain_text("bias")
    area.press("Tab")
    area.press_sequentially(": -4}}\n    wrong: 1")
    expect(page.locator("#policy-text-verdict .invalid")).to_contain_text("wrong")
    expect(area).to_have_attribute("aria-invalid", "true")
    area.fill("rules:\n  - do: {suppress: {connectors: [reflection], bias: -4}}\n")
    expect(page.locator("#policy-text-verdict .valid")).to_contain_text("1 rule")
    page.get_by_label("Save as").fill("console-test")
    try:
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status").filter(has_text="Saved as console-test")).to_be_visible()
        stored = httpx.get(f"{server.api}/policies/console-test").raise_for_status().json()
        assert stored["rules"][0]["do"] == {"suppress": {"connectors": ["reflection"], "bias": -4.0}}
        page.get_by_role("link", name="All policies").click()
        mine = page.locator("[data-policy='console-test']")
        mine.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(mine).to_have_count(0)
        assert httpx.get(f"{server.api}/policies/console-test").status_code == 404
    finally:
        httpx.delete(f"{server.api}/policies/console-test")
    assert set(page_log.refused) == {400}


def test_what_the_admin_may_do_asks_for_the_admins_key(page: Page, other_server: Server, page_log: PageLog) -> None:
    page_log.origin = other_server.url
    page.goto(f"{other_server.url}/forkpoint#/policies?edit")
    page.fill("#key-value", API_KEY)
    page.press("#key-value", "Enter")
    expect(page.locator("#policy-text-verdict .valid")).to_be_visible()
    page.get_by_label("Save as").fill("guarded")
    page.get_by_role("button", name="Save").click()
    page.fill("#admin-key", ADMIN_KEY)
    page.press("#admin-key", "Enter")
    expect(page.get_by_role("status").filter(has_text="Saved as guarded")).to_be_visible()
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert httpx.delete(f"{other_server.api}/policies/guarded", headers=headers).status_code == 200
    assert set(page_log.refused) == {401}


def test_an_arm_beside_its_placebo(page: Page, server: Server) -> None:
    arms = [
        {"name": name, "policy": policy, "weight": 0.01}
        for name, policy in (("control", None), ("ban", "nowait"), ("random", "nowait.placebo"))
    ]
    metrics = [{"name": "correct", "direction": "higher", "role": "decision"}]
    body = {"name": "console-doses", "unit": "X-Console-Unit", "arms": arms, "metrics": metrics}
    httpx.post(f"{server.api}/experiments", json=body).raise_for_status()
    try:
        visit_page(page, server, "experiments", "?name=console-doses")
        row = page.get_by_role("region", name="Policies beside their placebos").locator("tbody tr")
        expect(row).to_have_count(1)
        for text in ("ban", "random", "unknown", "correct: no values yet", "no conclusion: the doses are not known"):
            expect(row).to_contain_text(text)
    finally:
        httpx.patch(f"{server.api}/experiments/console-doses", json={"status": "stopped"})
        httpx.delete(f"{server.api}/experiments/console-doses")


def test_an_experiment_from_its_definition_to_its_end(page: Page, server: Server) -> None:
    visit_page(page, server, "experiments", "?new")
    page.get_by_label("Name", exact=True).fill("console-exp")
    page.get_by_role("combobox", name="Unit").fill("user")
    try:
        page.get_by_role("button", name="Create").click()
        expect(page.locator(".verdict-line")).to_have_text("nothing is decided yet")
        expect(page.locator(".tag.good")).to_have_text("sample ratio")
        for user in range(20):
            generate(server, user=f"u{user}", max_tokens=2, forks=False)
        table = page.get_by_role("region", name="Arms of console-exp")
        found = httpx.get(f"{server.api}/experiments/console-exp").raise_for_status().json()
        figures = {one["arm"]: one for one in found["figures"]}
        total = sum(one["requests"] for one in figures.values())
        assert total > 0
        for arm, one in figures.items():
            expect(table.locator(f"tr[data-key={arm}] td.number").last).to_have_text(str(one["requests"]))
        expect(page.locator("figure svg")).to_have_count(1)
        expect(page.locator("figcaption")).to_have_text("treatment: no interval yet")  # of twenty units
        page.get_by_label("Weight of treatment, percent").fill("30")
        with page.expect_response(lambda response: response.request.method == "PATCH"):
            table.locator("tr[data-key=treatment]").get_by_role("button", name="Ramp").click()
        expect(table.locator("tr[data-key=treatment] input")).to_have_value("30")
        weights = [arm["weight"] for arm in httpx.get(f"{server.api}/experiments/console-exp").json()["arms"]]
        assert weights == pytest.approx([0.1, 0.3])
        page.locator(".verdict").get_by_role("button", name="Pause").click()
        page.locator(".verdict").get_by_role("button", name="Resume").click()
        page.locator(".verdict").get_by_role("button", name="Stop").click()
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        expect(page.locator(".verdict .tag").first).to_have_text("stopped")
        page.locator(".verdict").get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.locator("#page-experiments").get_by_text("console-exp")).to_have_count(0)
        assert httpx.get(f"{server.api}/experiments/console-exp").status_code == 404
    finally:
        httpx.patch(f"{server.api}/experiments/console-exp", json={"status": "stopped"})
        httpx.delete(f"{server.api}/experiments/console-exp")


TIMELINE = """async seconds => {
    const { timelinePlot } = await import('/forkpoint/timeline.js');
    const at = share => new Date(2026, 10, 26, 16).getTime() / 1000 + share * seconds;
    const rows = [0, 0.5, 1].map(share => ({ until: at(share), estimate: 0.1, interval: [-0.1, 0.3] }));
    const plot = timelinePlot({ metric: 'correct', arms: { treatment: rows } });
    document.body.append(plot);
    const texts = [...plot.querySelector('svg g').querySelectorAll('.tick text')];
    const boxes = texts.map(text => text.getBoundingClientRect());
    plot.remove();
    return { labels: texts.map(text => text.textContent), caption: plot.querySelector('figcaption').textContent,
        apart: boxes.slice(1).every((box, before) => box.left > boxes[before].right) };
}"""
AXES = [  # seconds that an experiment is old, a label below its plot, and one more
    (1.5, "16:00:00", "16:00:01"),
    (40, "16:00:15", "16:00:30"),
    (110, "16:00:30", "16:01:30"),
    (1200, "16:10", "16:20"),
    (80_000, "18:00", "12:00"),
    (100_000, "27 Nov", "27 Nov"),
    (864_000, "27 Nov", "5 Dec"),
]


@pytest.mark.parametrize(("seconds", "one", "other"), AXES)
def test_an_experiments_times_differ(page: Page, server: Server, seconds: float, one: str, other: str) -> None:
    visit(page, server)
    shown_axis = page.evaluate(TIMELINE, seconds)
    labels = shown_axis["labels"]
    assert one in labels
    assert other in labels
    assert len(set(labels)) == len(labels) <= 7
    assert shown_axis["apart"]
    assert shown_axis["caption"] == "treatment"


def test_live_shows_the_requests_that_end_while_one_looks(page: Page, server: Server) -> None:
    generate(server, policy="nowait")
    visit_page(page, server, "live")
    page.wait_for_function("() => document.querySelector('#page-live .hint[aria-live]').textContent.startsWith('Over')")
    generate(server, policy="nowait")
    row = page.locator("#page-live tr[data-key=nowait]")
    expect(row.locator("td").nth(3)).to_contain_text("%")
    expect(row.locator("td").nth(6)).not_to_have_text("–")
    expect(page.locator("#page-live .spark").first).to_be_visible()


def test_calibration_shows_the_threshold_and_the_entropies(page: Page, server: Server) -> None:
    generate(server, policy="observe")
    visit_page(page, server, "calibration")
    threshold = httpx.get(f"{server.api}/calibration").json()["fork_threshold"]
    expect(page.locator(".tile").first).to_contain_text(f"{threshold:.3f} nats")
    assert page.locator("#page-calibration .chart rect").count() > 5


RESULTS = {
    "scorer": "countdown", "asked": 4, "answered": 4, "questions": 2, "warnings": ["2 questions are few"],
    "cautions": {}, "configuration": {"samples": 1},
    "arms": [
        {
            "arm": arm, "answers": 2, "errors": 0, "failed_scorers": 0,
            "correct": {"value": right, "low": 0, "high": 1},
            "tokens": {"value": 30}, "reasoning_tokens": None, "truncated": {"value": 0}, "effect": None,
        }
        for arm, right in (("none", 0.5), ("nowait", 1.0))
    ],
    "differences": [
        {
            "arm": "nowait", "to": "none", "pairs": 2, "questions": 2, "correct_p_holm": 0.4, "equal_mean": None,
            "correct": {"value": 0.5, "low": -0.4, "high": 0.9}, "tokens": {"value": -3.0},
        }
    ],
}  # fmt: skip


def test_a_run_is_read_from_its_files(page: Page, server: Server, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    answers = [("q1", "none", "17"), ("q1", "nowait", "18"), ("q2", "none", "5"), ("q2", "nowait", "5")]
    lines = [
        {
            "question": question, "sample": 0, "arm": arm,
            "answer": {"choices": [{"text": text, "reasoning": "<b>", "finish_reason": "stop"}], "response_id": "r"},
        }
        for question, arm, text in answers
    ]  # fmt: skip
    journal = [{"forkpoint ab": 1}, *lines]
    (tmp_path / "journal.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in journal) + '{"question": "q3')
    visit_page(page, server, "runs")
    page.set_input_files("#run-files", [tmp_path / "results.json", tmp_path / "journal.jsonl"])
    expect(page.locator(".verdict-line")).to_have_text("No difference from none is shown")
    expect(page.get_by_role("region", name="Differences from none")).to_contain_text("+50.0")
    expect(page.locator(".question")).to_have_count(1)  # of two questions, the one whose answers differ
    page.locator(".question summary").click()
    expect(page.locator(".question pre").first).to_contain_text("<b>")
    (tmp_path / "other.json").write_text("{")
    page.set_input_files("#run-files", [tmp_path / "other.json"])
    expect(page.locator("#page-runs .problem")).to_contain_text("not JSON")


def test_a_long_trace_is_shown_at_once_and_moves_at_once(page: Page, server: Server) -> None:
    body = f"data: {json.dumps(long_trace(LENGTH))}\n\ndata: [DONE]\n\n"
    page.route("**/v1/forks/long?stream=true", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    visit(page, server)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU time: other processes do not count

    def main_thread_seconds() -> float:
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        seconds: float = metrics["TaskDuration"]
        return seconds

    started = main_thread_seconds()
    page.evaluate("location.hash = '#trace=long'")
    page.wait_for_selector(".text .token[data-nats]")
    page.evaluate(FRAME)
    assert main_thread_seconds() - started <= 1
    settled(page)
    page.locator(".text").focus()
    for key, position in (("]", 10), ("ArrowRight", 11), ("[", 0)):
        before = main_thread_seconds()
        for _ in range(2 if key != "ArrowRight" else 1):
            page.keyboard.press(key)
        page.evaluate(FRAME)
        assert main_thread_seconds() - before <= 2 * 0.05, key
        expect(page.locator(".token.cursor")).to_have_attribute("data-at", str(position if key != "[" else 5))
    expect(page.locator(".token.arriving")).to_have_count(0)  # nothing fades in that was not just generated
    before = main_thread_seconds()
    page.keyboard.press("End")
    page.evaluate(FRAME)
    assert main_thread_seconds() - before <= 2 * 0.05, "End"
    expect(page.locator(".token.cursor")).to_have_attribute("data-at", str(LENGTH - 1))
    expect(page.locator(".token.cursor")).to_be_in_viewport()
    plot = page.locator(".plot")
    plot.focus()
    for _ in range(3):
        plot.press("+")
    expect(page.locator(".overview")).to_be_visible()
    ticks = page.locator(".plot .across .tick text")
    places = [int(text.replace(",", "")) for text in ticks.all_text_contents()]
    assert max(places) - min(places) <= LENGTH / 8
    plot.press("0")
    expect(ticks.first).to_have_text("0")


def test_what_is_far_from_forks_folds(page: Page, server: Server) -> None:
    trace = long_trace(400)
    trace["fork_points"] = [point for point in trace["fork_points"] if point["index"] in (100, 300)]
    visit(page, server)
    page.click("#tab-paste")
    page.fill("#paste-text", json.dumps(trace))
    page.click("#paste .primary")
    settled(page)
    page.get_by_role("button", name="Forks ± 5").click()
    shown_places = page.locator(".text .token").evaluate_all("all => all.map(one => Number(one.dataset.at))")
    assert shown_places == [*range(95, 106), *range(295, 306)]
    expect(page.locator(".fold")).to_have_text(["⋯ 95 ⋯", "⋯ 189 ⋯", "⋯ 94 ⋯"])
    page.locator(".text").focus()
    page.keyboard.press("]")
    page.keyboard.press("]")
    expect(page.locator(".token.cursor")).to_have_attribute("data-at", "300")
    page.locator(".fold").first.click()
    expect(page.locator(".text .token")).to_have_count(95 + 22)
