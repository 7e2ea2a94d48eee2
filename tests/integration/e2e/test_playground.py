"""What the playground sends, stores and samples again, in a real browser on a real server."""

from __future__ import annotations

import ast
import math
import re

import httpx
from playwright.sync_api import Page, expect

from tests.processes.forkpoint_server import Server

from .conftest import PageLog
from .console_page import generate
from .viewer_page import (
    body_of,
    check_shows,
    check_steps,
    ids_shown,
    run_of,
    settled,
    shown,
    submit,
    trace_of,
    visit,
)

PROMPT = "Use 3, 7, 2 to make 17."


def test_the_form_sends_the_chat_and_a_policys_parameters(page: Page, server: Server) -> None:
    visit(page, server)
    page.locator("summary", has_text="Chat and sampling").click()
    page.fill("#system", "Be brief.")
    page.get_by_role("button", name="Add an earlier turn").click()
    page.get_by_role("button", name="Add an earlier turn").click()
    page.get_by_label("Earlier turn").nth(0).fill("Use 1, 2 to make 3.")
    page.get_by_label("Earlier turn").nth(1).fill("1 + 2")
    page.fill("#template", "{enable_thinking: true}")
    page.select_option("#policy-a", "amplify-reflection")
    page.get_by_label("bias of amplify-reflection").fill("2.5")
    page.fill("#most", "12")
    page.fill("#top-p", "0.9")
    page.select_option("#policy-b", "(nothing)")
    page.fill("#prompt", PROMPT)
    page.locator("summary", has_text="As curl").click()
    expect(page.locator("pre[aria-label='As Python']")).not_to_be_empty()
    python = page.locator("pre[aria-label='As Python']").inner_text()
    with page.expect_request("**/v1/chat/completions") as sent:
        page.click("#run")
    body = body_of(sent.value.post_data)
    assert [(one["role"], one["content"]) for one in body["messages"]] == [
        ("system", "Be brief."), ("user", "Use 1, 2 to make 3."), ("assistant", "1 + 2"), ("user", PROMPT),
    ]  # fmt: skip
    assert body["policy"] == {"use": "amplify-reflection", "with": {"bias": 2.5}}
    assert (body["top_p"], body["max_tokens"]) == (0.9, 12)
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    ast.parse(python)
    assert '"with": {"bias": 2.5}' in python
    settled(page)
    assert len(shown(page)) <= 12
    expect(run_of(page).locator("header .tag")).to_have_text(re.compile("length: cut off at 12 tokens|stop"))


def test_runs_of_before_come_back_with_their_form(page: Page, server: Server) -> None:
    visit(page, server)
    submit(page, PROMPT, "nowait", seed="3", most="30")
    settled(page)
    first = ids_shown(page)
    submit(page, "Use 3, 7, 2, 11 to make 17.", "none", seed="4", most="20")
    settled(page)
    assert ids_shown(page) != first
    page.locator("#history .chip").nth(1).click()
    page.wait_for_function("id => location.hash.includes(id)", arg=first[0])
    settled(page)
    expect(page.locator("#prompt")).to_have_value(PROMPT)
    expect(page.locator("#policy-a")).to_have_value("nowait")
    check_shows(shown(page), trace_of(server, first[0]))
    page.reload()
    expect(page.locator("#history .chip")).to_have_count(2)


def test_what_else_could_stand_at_any_token(page: Page, server: Server) -> None:
    visit(page, server)
    submit(page, PROMPT, "nowait", most="30")
    settled(page)
    trace = trace_of(server, ids_shown(page)[0])
    pointed = {point["index"] for point in (*trace["fork_points"], *trace["intervention_points"])}
    choice = trace["choices"][0]
    place = next(place for place in range(1, len(choice["tokens"])) if place not in pointed)
    run_of(page).locator(f".token[data-at='{place}']").click()
    page.get_by_role("button", name="Show what else could stand here").click()
    expect(page.locator("#card .alternative")).to_have_count(5)
    prompt = trace["prompts"][0]["token_ids"] + choice["token_ids"][:place]
    body = {"model": "countdown", "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5, "policy": "none"}
    likeliest = httpx.post(f"{server.api}/completions", json=body).raise_for_status().json()["choices"][0]["text"]
    expect(page.locator("#card .alternative-token").first).to_have_text(likeliest.replace(" ", "␣"))
    before = page.locator("#card .before-after b").all_inner_texts()
    assert len(before) == 2  # before the policy, and as it was sampled
    logprobs = choice["logprobs"][place], choice["policy_logprobs"][place]
    assert [round(float(text.strip("<% "))) for text in before] == [
        round(100 * 2.718281828459045**nats) for nats in logprobs
    ]


def test_forks_are_verified_from_the_page(page: Page, server: Server) -> None:
    visit(page, server)
    submit(page, PROMPT, "none", seed="1", most="60")
    settled(page)
    run_of(page).locator(".verify summary").click()
    for name, value in (("Continuations", "6"), ("Forks", "1"), ("Max tokens", "20")):
        run_of(page).get_by_label(name).fill(value)
    expect(run_of(page).locator(".verify .hint").nth(1)).to_have_text("At most 12 continuations at 1 fork, 240 tokens")
    with page.expect_request("**/v1/forks") as sent:
        run_of(page).get_by_role("button", name="Verify").click()
    trace = trace_of(server, ids_shown(page)[0])
    body = body_of(sent.value.post_data)
    assert body["completion"] == trace["choices"][0]["token_ids"]
    assert body["prompt"] == trace["prompts"][0]["token_ids"]
    expect(run_of(page).locator(".verify [role=status]")).to_contain_text("of 1 fork verified")
    highest = max(trace["fork_points"], key=lambda point: point["entropy"])
    run_of(page).locator(f".token[data-at='{highest['index']}']").click()
    expect(page.locator("#card .verified")).to_contain_text("by resampling")


def test_eight_seeds_as_small_multiples(page: Page, server: Server) -> None:
    visit(page, server)
    page.fill("#prompt", PROMPT)
    page.fill("#most", "16")
    page.select_option("#policy-a", "none")
    page.select_option("#policy-b", "nowait")
    page.click("#seeds")
    settled(page)
    rows = page.locator(".seeds article")
    expect(rows).to_have_count(2)
    for row in rows.all():
        expect(row.locator(".seed canvas")).to_have_count(8)
        expect(row.locator(".hint").first).to_contain_text("8 of 8 ended")
    page.locator(".seed[data-seed='3'] button").first.click()
    settled(page)
    one, other = (trace_of(server, response_id) for response_id in ids_shown(page))
    assert (one["policy"], other["policy"]) == (None, "nowait")
    check_shows(shown(page, "B"), other)


def test_an_example_runs_before_anything_was_typed(page: Page, server: Server) -> None:
    earlier = generate(server, policy="observe")
    visit(page, server)
    expect(page.locator(".recent a").first).to_have_attribute("href", f"#trace={earlier}")
    expect(page.locator(".welcome .ramp-limit")).to_be_visible()
    page.fill("#most", "40")
    page.get_by_role("button", name="Forbid reflection words").click()
    settled(page)
    one, other = (trace_of(server, response_id) for response_id in ids_shown(page))
    assert (one["policy"], other["policy"]) == (None, "nowait")
    expect(page.locator(".welcome")).to_have_count(0)


def test_the_colour_of_a_token_covers_its_word_and_not_the_space_before(page: Page, server: Server) -> None:
    visit(page, server)
    submit(page, PROMPT, "none", most="60")
    settled(page)
    tokens = trace_of(server, ids_shown(page)[0])["choices"][0]["tokens"]
    spans = run_of(page).locator(".text .token").evaluate_all("all => all.map(one => one.textContent)")
    assert spans == [text.lstrip(" ").replace("\n", "⏎\n") for text in tokens]
    whole = run_of(page).locator(".text .block").evaluate_all("all => all.map(one => one.textContent).join('')")
    assert whole == "".join(tokens).replace("\n", "⏎\n")


def test_the_scale_can_be_fitted_to_the_run(page: Page, server: Server) -> None:
    visit(page, server)
    submit(page, PROMPT, "none", most="60")
    settled(page)
    entropies = sorted(trace_of(server, ids_shown(page)[0])["choices"][0]["entropies"])
    full = math.ceil(entropies[math.ceil(0.99 * len(entropies)) - 1] / 0.25) * 0.25
    assert 0.5 < full < 2.5
    highest = page.locator(f".token[data-nats='{entropies[-1]}']").first
    colour = "one => getComputedStyle(one).backgroundColor"
    before = highest.evaluate(colour)
    page.get_by_role("button", name="Fit").click()
    expect(page.locator("#legend [role=img]")).to_have_attribute("aria-label", re.compile(f"0 to {full} nats"))
    assert highest.evaluate(colour) != before
    page.get_by_role("button", name="Fit").click()
    assert highest.evaluate(colour) == before


def test_a_policy_is_found_by_its_name_and_by_its_description(page: Page, server: Server) -> None:
    visit(page, server)
    find, options = page.get_by_role("combobox", name="Policy"), page.get_by_role("option")
    find.click()
    listed = httpx.get(f"{server.api}/policies").raise_for_status().json()["data"]
    expect(options).to_have_count(len(listed) + 2)  # no policy, and one that is written here
    find.fill("majority")
    described = {one["name"] for one in listed if "majority" in f"{one['name']} {one['description']}".lower()}
    assert len(described) > 1
    assert set(options.evaluate_all("all => all.map(one => one.dataset.value)")) == described
    find.press("Escape")
    expect(find).to_have_value("no policy")
    expect(page.locator("#policy-a")).to_have_value("none")
    find.fill("nowait")
    expect(options.first).to_have_attribute("aria-selected", "true")
    find.press("Enter")
    expect(find).to_have_value("nowait")
    expect(page.locator("#policy-a")).to_have_value("nowait")
    expect(page.locator("#described")).to_contain_text("reflection words")


def test_an_error_is_at_its_field_and_ends_with_it(page: Page, server: Server, page_log: PageLog) -> None:
    visit(page, server)
    submit(page, PROMPT, "none", most="100000000")
    settled(page)
    alerts = page.locator("[role=alert]:visible")
    expect(alerts).to_have_text(re.compile(r"^Max tokens: .*(?<!\))$"))
    expect(page.locator("#most")).to_have_attribute("aria-invalid", "true")
    page.fill("#most", "20")
    expect(page.locator("#most")).not_to_have_attribute("aria-invalid", "true")
    page.select_option("#policy-a", "(inline)")
    page.fill("#policy-a-inline", "{")
    page.click("#run")
    expect(alerts).to_have_text(re.compile("neither YAML nor JSON"))  # one: that of the run before is gone
    page.click("#tab-open")
    expect(alerts).to_have_count(0)
    page.fill("#open-id", "chatcmpl-unheard-of")
    page.click("#open .primary")
    expect(alerts).to_have_text(re.compile("^Response ID: there is no trace"))
    expect(page.locator("#open-id")).to_have_attribute("aria-invalid", "true")
    page.click("#tab-paste")
    expect(page.locator("#problem")).to_be_hidden()
    assert set(page_log.refused) == {400, 404}


def test_runs_of_an_earlier_form_say_so(page: Page, server: Server) -> None:
    visit(page, server)
    submit(page, PROMPT, "none", most="10", seed="3")
    settled(page)
    expect(page.locator("#stale")).to_be_hidden()
    page.fill("#seed", "4")
    expect(page.locator("#stale")).to_be_visible()
    page.fill("#seed", "3")
    expect(page.locator("#stale")).to_be_hidden()


def test_a_run_without_tokens_says_how_long(page: Page, server: Server) -> None:
    visit(page, server)
    page.route("**/v1/chat/completions", lambda route: None)  # a server that does not answer
    submit(page, PROMPT)
    expect(run_of(page).locator(".state")).to_have_text(re.compile(r"^no token for \d+ s$"))
    page.click("#stop")
    settled(page)


ALIGNED = """async ([left, right]) => {
    const { align, beside } = await import('/forkpoint/alignment.js');
    const tokens = words => words.map(text => ({ text }));
    const found = align(tokens(left), tokens(right));
    return [...found.common.map(one => [...one]), found.pairs, beside(found, 0)[5], beside(found, 1)[1]];
}"""


def test_sentences_of_both_answers_are_aligned(page: Page, server: Server) -> None:
    page.set_viewport_size({"width": 1280, "height": 420})  # so that texts of 200 tokens are scrolled
    visit(page, server)
    left, right = ["a", " b.", " c", " d.", " e", " f."], ["a", " b.", " x.", " e", " f.", " g"]
    common = [[1, 1, 0, 0, 1, 1], [1, 1, 0, 1, 1, 0]]
    assert page.evaluate(ALIGNED, [left, right]) == [*common, [[0, 0], [4, 3]], 4, 1]
    submit(page, "Use 3, 7, 2, 5 to make 24.", "none", "nowait", most="200")
    settled(page)
    page.get_by_role("button", name="Align").click()
    first = page.locator(".run[data-run=B] .text .token").first
    expect(first).to_contain_class("common")
    page.locator(".run[data-run=A] .text").evaluate("one => { one.scrollTop = 120; }")
    page.wait_for_function("() => document.querySelector('[data-run=B] .text').scrollTop > 0")
    assert page.evaluate("() => document.querySelector('[data-run=A] .text').scrollTop") == 120
    page.get_by_role("button", name="Align").click()
    expect(page.locator(".token.common")).to_have_count(0)


def test_the_other_answers_entropies_are_drawn_over_a_plot(page: Page, server: Server) -> None:
    """Token by token; once the answers are aligned, those of the sentence that both have."""
    visit(page, server)
    submit(page, "Use 3, 7, 2, 5 to make 24.", "none", "nowait", seed="1", most="120")
    settled(page)
    one, other = (trace_of(server, response_id)["choices"][0]["entropies"] for response_id in ids_shown(page))
    line = run_of(page).locator(".plot .other path")
    expect(line).to_have_count(0)
    overlay = page.get_by_role("button", name="Overlay")
    overlay.click()
    expect(overlay).to_have_attribute("aria-pressed", "true")
    expect(overlay).to_be_focused()
    expect(page.locator(".plot .other path")).to_have_count(2)
    check_steps(line, other[: len(one)])
    check_steps(run_of(page, "B").locator(".plot .other path"), one[: len(other)])
    plot = run_of(page).locator(".plot")
    plot.press("Home")
    unsure = next(place for place, both in enumerate(zip(one, other, strict=False)) if min(both) > 0.1)
    for _ in range(unsure):
        plot.press("ArrowRight")
    said = f"{one[unsure]:.2f} nats, B {other[unsure]:.2f} nats"
    expect(run_of(page).locator(".readout")).to_have_text(f"{unsure} · {said}")
    expect(plot).to_have_attribute("aria-valuetext", re.compile(rf", B {other[unsure]:.2f} nats$"))

    page.get_by_role("button", name="Align").click()
    places = page.evaluate(BESIDE, [trace_of(server, response_id) for response_id in ids_shown(page)])
    assert places != list(range(len(one)))
    check_steps(line, [other[place] if place < len(other) else None for place in places])
    overlay.click()
    expect(page.locator(".plot .other path")).to_have_count(0)


BESIDE = """async traces => {
    const { align, beside } = await import('/forkpoint/alignment.js');
    const [left, right] = traces.map(trace => trace.choices[0].tokens.map(text => ({ text })));
    return [...beside(align(left, right), 0)];
}"""
