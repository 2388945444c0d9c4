"""The report in headless Chromium: it draws, filters and links, and hostile text stays text.

Chromium is Debian's package (`apt-get install chromium`); playwright drives it and downloads nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import simenv
from tests.support.hostile_run import AD_FREE, ADS, MECHANISMS, PERSONAS, QUESTIONS, REASON, hostile_run, shown

pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
from playwright.sync_api import Browser, Page, expect, sync_playwright

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
GSP, ORGANIC, EVIL = MECHANISMS


class Opened(NamedTuple):
    """A page of a report."""

    page: Page
    said: list[str]
    """Console messages, errors and dialogs."""
    requests: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        text = "no chromium in the path: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simenv.view(hostile_run(tmp_path_factory.mktemp("hostile") / "run")).path


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opened]:
    """The report in a page of 1,400 pixels. At the end nothing may have been said, and nothing loaded but the file."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    said: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready]")
    yield Opened(page, said, requests)
    page.close()
    assert said == []
    assert {url.split("#")[0] for url in requests} == {report.as_uri()}


def count(page: Page) -> str:
    return page.locator(".count").inner_text()


def cards(page: Page) -> list[str | None]:
    return [card.get_attribute("data-mechanism") for card in page.locator(".card").all()]


def test_hostile_text_stays_text(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    ours = "main, header, nav, section, figure, figcaption, svg *, table, thead, tbody, tr, th, td, caption"
    assert page.locator(ours).count() > 100
    forbidden = "img, iframe, object, embed, base, link, main style, main script, a:not([href^='#'])"
    texts: list[str] = []
    for place in range(len(QUESTIONS)):
        page.locator(".question").nth(place).click()
        for details in page.locator(".pane details").all():
            details.evaluate("it => { it.open = true; }")
        texts.append(page.locator(".pane").inner_text())
        assert page.locator(forbidden).count() == 0
    for place, text in enumerate(texts):
        assert shown(QUESTIONS[place]) in text
    everything = "\n".join([*texts, page.locator("#top, main").all_inner_texts()[1]])
    wanted = [EVIL, PERSONAS[0].id, PERSONAS[1].id, REASON, AD_FREE, "no reply: <script>alert('error')</script>"]
    wanted += [ADS[0].advertiser, ADS[0].title, ADS[0].body, ADS[0].category, ADS[0].url, ADS[1].title]
    wanted += ["<script>alert('model')</script>", "<script>alert('command')</script>", "<b>Bold</b>"]
    assert [text for text in wanted if shown(text) not in everything] == []
    handlers = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    assert page.evaluate(handlers) == []


def test_the_policy_forbids_what_the_page_does_not_need(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    tried = """async () => {
        const failed = async (work) => { try { await work(); return false; } catch { return true; } };
        const script = document.createElement("script");
        return [
            await failed(() => { document.body.innerHTML = "<b>x</b>"; }),
            await failed(() => { script.text = "1"; }),
            await failed(() => fetch("https://evil.example/")),
            await failed(() => new Worker("data:,1")),
        ];
    }"""
    assert page.evaluate(tried) == [True] * 4
    page.close()


def test_filters(opened: Opened) -> None:
    page = opened.page

    def after(label: str, value: str) -> str:
        page.get_by_role("button", name="clear filters").click()
        page.locator(".filters").get_by_label(label).select_option(label=value)
        return count(page)

    assert count(page) == "4 questions, 12 answers"
    assert after("Mechanism", shown(EVIL)) == "4 questions, 4 answers"
    assert after("Persona", shown(PERSONAS[1].id)) == "2 questions, 6 answers"
    assert after("Ad category", "hats") == "3 questions, 3 answers"
    assert after("Faults", "with any fault") == "4 questions, 5 answers"
    assert after("Faults", "broken markup") == "4 questions, 4 answers"
    assert after("Faults", "failed") == "1 question, 1 answer"
    assert after("Faults", "without faults") == "4 questions, 7 answers"
    assert after("Abstention", "the judge abstained") == "1 question, 1 answer"
    assert after("Clicks", "an ad was clicked") == "2 questions, 4 answers"
    assert cards(page) == [GSP, ORGANIC, EVIL]
    assert page.locator(".card.dimmed").count() == 1
    page.get_by_label("only answers that pass the filters").check()
    assert cards(page) == [GSP, EVIL]
    page.get_by_role("button", name="clear filters").click()
    page.locator("#search").fill("BOOTS  wear")
    expect(page.locator(".count")).to_have_text("4 questions, 4 answers")
    assert page.locator(".card:not(.dimmed) .answer mark").all_inner_texts() == ["Wear", "Boots"]
    page.locator("#search").fill("no such words")
    expect(page.locator(".count")).to_have_text("0 questions, 0 answers")
    assert page.locator(".pane").inner_text() == "No answer passes these filters."


def test_plots_and_tables_are_used(opened: Opened) -> None:
    page = opened.page
    point = page.locator("#tradeoffs .point").first
    point.hover()
    assert "revenue" in page.locator("#tip").inner_text()
    name = point.get_attribute("data-mechanism")
    point.click()
    assert page.locator(".filters").get_by_label("Mechanism").locator("option:checked").inner_text() == name
    assert count(page).endswith("4 answers")
    labels = page.locator("#differences select")
    plot = page.locator("#differences .plot")
    before = plot.text_content()
    labels.select_option(index=3)
    assert plot.text_content() != before
    chip = page.locator(f".chip[data-mechanism='{GSP}']")
    marks = page.locator(f"#clicks .point[data-mechanism='{GSP}']")
    assert marks.count() > 3
    chip.click()
    assert marks.count() == 0
    chip.focus()
    page.keyboard.press("Enter")
    assert marks.count() > 3
    marks.first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".filters").get_by_label("Mechanism").locator("option:checked").inner_text() == GSP
    page.locator("#clicks details.numbers summary").first.click()
    expect(page.locator("#clicks details.numbers table").first.locator("tbody tr").nth(1)).to_be_visible()
    page.get_by_role("tab", name="Behaviour").click()
    assert page.get_by_role("tabpanel").locator("caption").inner_text().startswith("Behaviour")
    page.get_by_role("tab", name="Money").click()
    page.get_by_role("button", name="revenue").first.click()
    firsts = page.get_by_role("tabpanel").locator("tbody tr td:nth-child(2)").all_inner_texts()
    numbers = [float(text.split(" ")[0]) for text in firsts]
    assert numbers == sorted(numbers, reverse=True)


def test_keys_and_links(opened: Opened) -> None:
    page = opened.page
    query = page.locator(".pane h3")
    assert query.inner_text() == shown(QUESTIONS[0])
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert query.inner_text() == shown(QUESTIONS[1])
    page.locator(".list").focus()
    page.keyboard.press("ArrowDown")
    assert query.inner_text() == shown(QUESTIONS[2])
    assert page.locator(".question[aria-selected='true'] .query").inner_text() == shown(QUESTIONS[2])
    link = page.get_by_role("link", name="Link to this question").get_attribute("href")
    assert link == "#question=q2%2F%3Cb%3E"
    page.keyboard.press("Home")
    assert query.inner_text() == shown(QUESTIONS[0])
    page.goto(page.url.split("#")[0] + link)
    expect(query).to_have_text(shown(QUESTIONS[2]))
    page.keyboard.press("/")
    page.keyboard.type("?j")
    assert page.locator("#search").input_value() == "?j"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="clear filters").click()
    page.locator(".answer .ad").first.click()
    assert page.locator(".shown-ad.chosen").count() == 1
    page.locator("#sections a", has_text="Trade-offs").click()
    expect(page).to_have_url(re.compile("#tradeoffs$"))


def test_narrow_dark_and_printed(browser: Browser, report: Path, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 700, "height": 900}, color_scheme="dark")
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready]")

    def colour(name: str) -> Any:
        return page.evaluate(f"getComputedStyle(document.body).{name}")

    assert page.evaluate("document.documentElement.scrollWidth") == 700
    assert colour("backgroundColor") == "rgb(20, 23, 27)"
    page.emulate_media(media="print")
    assert colour("backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".filters").is_visible()
    assert page.get_by_role("tabpanel", include_hidden=True).count() == page.locator(".tabs table:visible").count()
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.close()
