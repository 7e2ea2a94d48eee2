"""What the playground sends, stores and samples again, in a real browser on a real server."""

from __future__ import annotations

import ast
import re

import httpx
from playwright.sync_api import Page, expect

from tests.processes.forkpoint_server import Server

from .viewer_page import body_of, check_shows, ids_shown, run_of, settled, shown, submit, trace_of, visit

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
