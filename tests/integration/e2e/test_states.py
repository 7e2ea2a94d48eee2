"""The plot of signals of hidden states: it is there where a trace has some, and shows what the API returns."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.processes.forkpoint_server import Server

from .console_page import generate, long_trace
from .viewer_page import check_steps, ids_shown, run_of, settled, submit, trace_of, visit

WATCH: dict[str, Any] = {"use": "rank-watch", "with": {"window": 16, "stride": 4}}
NAMES = ["effective rank", "rank velocity", "rank acceleration"]
LIVE = """() => document.querySelector('#runs').dataset.state === 'running'
    && document.querySelector('.states .line path')?.getAttribute('d')"""
HOSTILE = "readout.<img src=x onerror=alert(1)>"
CONTRASTS = """([...shown]) => {
  const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const light = colour => {
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map(one => one / 255)
      .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = light(getComputedStyle(document.querySelector('.run')).backgroundColor);
  return shown.map(([selector, property]) => {
    const front = light(getComputedStyle(document.querySelector(selector))[property]);
    return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  });
}"""


def states_of(page: Page) -> Locator:
    return run_of(page).get_by_role("group", name="Hidden states of run A")


def watched(page: Page, server: Server) -> dict[str, Any]:
    """Open the trace of an answer whose effective rank was measured."""
    response_id = generate(server, policy=WATCH, max_tokens=80, temperature=1)
    visit(page, server, f"#trace={response_id}")
    run_of(page).locator(".text .token[data-nats]").first.wait_for()
    settled(page)
    return trace_of(server, response_id)


def paste(page: Page, server: Server, trace: dict[str, Any]) -> None:
    visit(page, server)
    page.click("#tab-paste")
    page.fill("#paste-text", json.dumps(trace))
    page.click("#paste .primary")
    settled(page)


def test_each_signal_is_drawn_on_its_own_scale(page: Page, server: Server) -> None:
    trace = watched(page, server)
    (choice,) = trace["choices"]
    states = states_of(page)
    select = states.get_by_role("combobox", name="Hidden states")
    expect(select.locator("option")).to_have_text(NAMES)
    for name, values in choice["hidden"].items():
        select.select_option(name)
        check_steps(states.locator(".line path"), values)
        known = [value for value in values if value is not None]
        about = states.locator(".states-about")
        expect(about).to_contain_text(f"known at {len(known)} of {len(values)} tokens")
        expect(about).to_contain_text("directions")
        bounded = name == "effective_rank_velocity"
        expect(states.locator(".limit line")).to_have_count(int(bounded))
        expect(states.locator(".limit text")).to_have_text(["above 0"] if bounded else [])
    fired = str(states.locator(".fired path").get_attribute("d")).count("M")
    assert fired == sum(bool(actions) for actions in choice["actions"]) > 0


def test_the_plots_the_text_and_the_card_point_at_one_token(page: Page, server: Server) -> None:
    trace = watched(page, server)
    (choice,) = trace["choices"]
    last = len(choice["token_ids"]) - 1
    states, ranks = states_of(page), choice["hidden"]["effective_rank"]
    slider = states.get_by_role("slider", name="Hidden states over position, run A")
    entropy = run_of(page).get_by_role("slider", name="Entropy over position, run A")
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(rf"effective rank {ranks[-1]:.2f} directions$"))
    expect(page.locator("#said")).to_contain_text(f"effective rank {ranks[-1]:.2f} directions")
    expect(states.locator(".readout")).to_have_text(f"{last} · {ranks[-1]:.2f} directions")
    for plot in (slider, entropy):
        expect(plot).to_have_attribute("aria-valuenow", str(last))
    expect(run_of(page).locator(".token.cursor")).to_have_attribute("data-at", str(last))
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("effective rank not known$"))
    entropy.press("End")
    expect(slider).to_have_attribute("aria-valuenow", str(last))
    select = states.get_by_role("combobox", name="Hidden states")
    select.focus()
    page.keyboard.press("ArrowDown")
    expect(select).to_have_value("effective_rank_velocity")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("rank velocity .* directions$"))
    described = select.get_attribute("aria-describedby")
    expect(page.locator(f"#{described}")).to_contain_text("ask for above 0")
    run_of(page).locator(f".token[data-at='{last}']").hover()
    expect(page.locator("#card .card-signals dt")).to_have_text(NAMES)
    expect(page.locator("#card .card-signals dd").first).to_have_text(f"{ranks[last]:.2f} directions")
    slider.press("+")
    for plot in (slider, entropy):
        places = [int(text) for text in plot.locator(".across .tick text").all_text_contents()]
        assert max(places) - min(places) <= 40


def test_it_grows_while_tokens_come(page: Page, server: Server) -> None:
    visit(page, server)
    submit(page, "Use 3, 7, 2, 5 to make 24.", "rank-watch", seed="4", most="500")
    page.wait_for_function(LIVE)
    settled(page)
    trace = trace_of(server, ids_shown(page)[0])
    known = [value for value in trace["choices"][0]["hidden"]["effective_rank"] if value is not None]
    expect(states_of(page).locator(".states-about")).to_contain_text(f"known at {len(known)} of")


def test_an_answer_without_signals_has_no_such_plot(page: Page, server: Server) -> None:
    visit(page, server, f"#trace={generate(server, policy='observe')}")
    run_of(page).locator(".text .token[data-nats]").first.wait_for()
    settled(page)
    expect(run_of(page).locator(".states")).to_be_hidden()
    expect(run_of(page).locator(".plot")).to_have_count(1)
    run_of(page).locator(".text .token").first.hover()
    expect(page.locator("#card .card-facts")).to_be_visible()
    expect(page.locator("#card .card-signals, #card .card-act")).to_have_count(0)


@pytest.mark.parametrize("shadow", [False, True])
def test_bounds_and_what_changes_the_states(page: Page, server: Server, shadow: bool) -> None:
    """A saved trace of two readouts: one that rules bound on both sides, one whose name must not be read as markup."""
    trace = long_trace(100)
    choice = trace["choices"][0]
    values = [None if place < 10 else round(place / 100 - 0.3, 4) for place in range(100)]
    choice["hidden"] = {"readout.correct": values, HOSTILE: [20_000.0] * 100}
    choice["actions"][20] = ["steer"]
    choice["actions"][21] = ["recycle", "steer", "steer"]
    bounds = {"readout.correct": {"above": [0.85], "below": [-0.25]}}
    paste(page, server, {**trace, "id": None, "policy": "mine", "hidden_bounds": bounds, "shadow": shadow})
    changed = f"{'would have changed' if shadow else 'changed'} hidden states at 2 tokens"
    expect(run_of(page).locator(".facts")).to_contain_text(changed)
    expect(run_of(page).locator(".facts")).not_to_contain_text("changed nothing")
    states = states_of(page)
    check_steps(states.locator(".line path"), values)
    expect(states.locator(".limit text")).to_have_text(["above 0.85", "below −0.25"])
    expect(states.locator(".states-about")).to_contain_text("ask for above 0.85, below −0.25")
    assert str(states.locator(".fired path").get_attribute("d")).count("M") == 2
    acts = page.locator("#card .card-act")
    run_of(page).locator(".token[data-at='20']").hover()
    steered = f"steer {'would have added' if shadow else 'added'} a vector to the hidden states"
    again = f"recycle {'would have run' if shadow else 'ran'} a layer again"
    expect(acts).to_have_text([steered])
    expect(page.locator("#card .card-signals dd").first).to_have_text("−0.1000")
    run_of(page).locator(".token[data-at='21']").hover()
    expect(acts).to_have_text([again, steered])
    expect(page.locator("#card .card-signals dt")).to_have_text(["readout correct", f"readout {HOSTILE[8:]}"])
    states.get_by_role("combobox", name="Hidden states").select_option(HOSTILE)
    expect(states.locator(".up .tick text").first).to_contain_text("k")
    expect(states.locator(".limit text")).to_have_count(0)
    assert page.locator("#runs img, #card img").count() == 0


def test_many_tokens_to_a_pixel_show_their_range(page: Page, server: Server) -> None:
    trace = long_trace(8_000)
    trace["choices"][0]["hidden"] = {"readout.correct": [0.9 if place % 5 == 0 else 0.1 for place in range(8_000)]}
    paste(page, server, {**trace, "id": None})
    path = str(states_of(page).locator(".line path").get_attribute("d"))
    assert 500 < path.count("H") < 1_500
    drawn = [float(height) for height in re.findall(r"[V,]([\d.]+)", path)]
    assert len(set(drawn)) == 2
    assert path.count("M") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_light_and_dark(page: Page, server: Server, scheme: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    watched(page, server)
    states = states_of(page)
    states.get_by_role("combobox", name="Hidden states").select_option("effective_rank_velocity")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for one in (states.locator("select"), states.locator("svg"), states.locator(".states-about")):
        box = one.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
    marks = [(".states .line path", "stroke"), (".states .limit line", "stroke"), (".states .fired path", "fill")]
    texts = [(".states-about", "color"), (".states .limit text", "fill"), (".states .up text", "fill")]
    contrasts = page.evaluate(CONTRASTS, [*marks, *texts])
    assert min(contrasts[: len(marks)]) >= 3
    assert min(contrasts[len(marks) :]) >= 4.5
