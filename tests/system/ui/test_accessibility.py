"""The tab and the page for who reads them by ear, by keyboard, or needs contrast."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Frame, Page, expect

from tests.system.ui.airflow_ui import AirflowUI, notebook_of, open_page, open_tab, switch_theme

ENOUGH = 4.5  # contrast of text, WCAG 2.2 AA
KEYS = 30  # fewer than would lead through all
# The contrast of each text that is seen with the background that it stands on: that of the nearest ancestor with one.
CONTRASTS = """() => {
  const channels = (color) => {
    const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    pixel.fillStyle = color;
    pixel.fillRect(0, 0, 1, 1);
    return [...pixel.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => channels(color).slice(0, 3)
    .map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (channels(color)[3] === 255) return color;
    }
    return "white";
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.textContent.trim();
    if (!text || !element.checkVisibility({ visibilityProperty: true }) || element.closest("datalist, title")) continue;
    const style = getComputedStyle(element);
    const [one, other] = [luminance(style.color), luminance(background(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([text.slice(0, 40), Math.round(contrast * 100) / 100, Number(style.opacity)]);
  }
  return found;
}"""
# What a person can do something with, or is led by, and that has no name.
NAMES = """() => [...document.querySelectorAll("a, button, input, iframe, nav, section, form, img, svg, [role=region]")]
  .filter((element) => element.checkVisibility() && !element.closest("[aria-hidden=true]") && element.type !== "hidden")
  .filter((element) => !(element.getAttribute("aria-label") || element.getAttribute("title") || element.alt
    || (element.getAttribute("aria-labelledby") && document.getElementById(element.getAttribute("aria-labelledby")))
    || (element.matches("input") && element.labels[0]?.textContent.trim())
    || (element.matches("a, button") && element.textContent.trim())))
  .map((element) => element.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def page(airflow, browser) -> Iterator[Page]:
    ui = AirflowUI(browser, airflow.url, airflow.passwords)
    yield ui.new_page()
    ui.close()


@pytest.fixture(scope="module", params=["report", "retried", "page"])
def shown(request, finished, page) -> tuple[Page, Frame]:
    """A page of Airflow's and in it the tab of a task, or the page of jobs."""
    if request.param == "page":
        return page, open_page(page)
    tab = open_tab(page, *finished[request.param], "notebook")
    if request.param == "retried":
        tab.get_by_role("link", name="Try 1 failed").click()
        tab.wait_for_url("**try_number=1")
    notebook_of(tab)
    tab.get_by_text("About the job").click()
    return page, tab


def test_what_it_is_made_of_is_named_and_every_text_has_contrast(shown):
    page, frame = shown
    root = frame.locator("html")
    assert root.get_attribute("lang") == "en"
    assert frame.title()
    assert frame.get_by_role("main").count() == 1
    levels = [
        int(tag[1]) for tag in frame.locator("h1, h2, h3, h4").evaluate_all("all => all.map(each => each.tagName)")
    ]
    assert levels == [1, *[2] * (len(levels) - 1)]
    assert frame.evaluate(NAMES) == []

    for theme in ("light", "dark"):
        switch_theme(page, theme)
        expect(root).to_have_attribute("data-theme", theme)
        contrasts = frame.evaluate(CONTRASTS)
        assert len(contrasts) > 20
        assert [text for text in contrasts if text[1] < ENOUGH or text[2] < 1] == [], theme


def test_focus_goes_in_the_order_of_reading_and_is_seen(shown):
    page, frame = shown
    frame.locator("h1").click()
    reached = []
    while len(reached) < KEYS:
        page.keyboard.press("Tab")
        focused = frame.evaluate(
            """() => {
              const element = document.activeElement;
              const order = [...document.querySelectorAll("*")].indexOf(element);
              const style = getComputedStyle(element);
              // The parts of a field for a moment have a look of their own when they have the focus.
              const isSeen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
              return [element.tagName, order, isSeen || element.type === "datetime-local"];
            }"""
        )
        if focused[0] in ("IFRAME", "BODY"):  # in the notebook, where keys are the notebook's
            break
        reached.append(focused)
    orders = [order for _, order, _ in reached]
    assert orders == sorted(orders)
    assert len(set(orders)) >= 5
    assert [each for each in reached if not each[2]] == []
