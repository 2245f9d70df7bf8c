# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as a browser shows it: on a telephone and on a desk, by day and by night."""

from __future__ import annotations

import dataclasses
import http.server
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.njord.telemetry.plugins.plugin_utils._report import html, model
from playwright.sync_api import Browser, Page

from tests.browser import sample

WIDTHS = (380, 1400)
HEIGHT = 800

LONG = "x" * 300

# For every element with text of its own: its contrast with what lies behind it, by WCAG 2.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length)
    .filter(e => !["title", "desc"].includes(e.tagName))
    .map(e => {
      const style = getComputedStyle(e);
      const [a, b] = [light(rgba(e instanceof SVGElement ? style.fill : style.color)), light(behind(e))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName + "." + e.getAttribute("class"),
              e.textContent.trim().slice(0, 40)];
    });
}"""


def stretched() -> model.Report:
    """A report whose every text is longer than any screen is wide, without a place to break it."""
    finding = {**sample.NOTE, "host": LONG, "severity": "critical", "evidence": {LONG: [{LONG: LONG}], "text": LONG}}
    texts = {key: LONG + key for key in ("check", "subject", "summary", "remedy")}
    charts = [
        {"kind": "bars", "title": LONG, "bars": [{"label": LONG, "value": 1e90, "limit": 3}]},
        {"kind": "lines", "title": LONG, "unit": LONG, "lines": [{"label": LONG, "points": [[1.7e9, 1e90]]}]},
    ]
    findings = [{**finding, **texts, "evidence": {**finding["evidence"], "chart": chart}} for chart in charts]
    return dataclasses.replace(
        sample.report(),
        title=LONG,
        hosts=(LONG, "b"),
        findings=model.assess(model.read_given(findings), [], sample.NOW),
        contacts=(model.Contact(LONG, f"{LONG}@{LONG}", LONG),),
    )


REPORTS: dict[str, t.Callable[[], model.Report]] = {
    "a bad night": sample.report,
    "a dry run": lambda: sample.report(check_mode=True),
    "a quiet night": lambda: sample.report(fleet=False, accepted=[]),
    "long words": stretched,
}


@dataclasses.dataclass
class Shown:
    page: Page
    requests: list[str]
    said: list[str]


@pytest.fixture
def show(chromium: Browser, tmp_path: Path) -> t.Iterator[t.Callable[..., Shown]]:
    contexts = []

    def show(report: model.Report, width: int, scheme: t.Literal["light", "dark"] = "light") -> Shown:
        path = tmp_path / "report.html"
        path.write_text(html.render(report), encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
        contexts.append(context)
        shown = Shown(context.new_page(), [], [])
        shown.page.on("request", lambda request: shown.requests.append(request.url))
        shown.page.on("console", lambda message: shown.said.append(message.text))
        shown.page.on("pageerror", lambda error: shown.said.append(str(error)))
        shown.page.goto(path.as_uri())
        return shown

    yield show
    for context in contexts:
        context.close()


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_wider_than_the_screen(show: t.Callable[..., Shown], name: str, width: int) -> None:
    page = show(REPORTS[name](), width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_verdict_first_step_and_whom_to_call_are_seen_without_scrolling(
    show: t.Callable[..., Shown], width: int
) -> None:
    page = show(sample.report(), width).page
    wanted = ["#verdict", ".sentence", ".counts", ".now .command", '.now a[href="tel:+4722334455"]']
    for selector in wanted:
        box = page.locator(selector).first.bounding_box()
        assert box is not None, selector
        assert box["width"] > 0
        assert box["y"] >= 0 and box["y"] + box["height"] <= HEIGHT, selector
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, selector
    assert page.locator("#verdict").inner_text() == "Critical"
    assert page.title() == "Critical: Weekly maintenance, 3 Oct 2026"


def test_the_page_asks_for_nothing_and_says_nothing(show: t.Callable[..., Shown]) -> None:
    shown = show(sample.report(), 1400)
    unfold(shown.page)
    shown.page.wait_for_load_state("networkidle")
    assert [url for url in shown.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in shown.requests if url.startswith("file:")]) == 1
    assert shown.said == []


def test_its_style_is_in_force_under_its_own_policy_when_served(chromium: Browser) -> None:
    body = html.render(sample.report()).encode()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = chromium.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("getComputedStyle(document.querySelector('.verdict')).borderRadius") == "14px"
        page.close()
        server.shutdown()
    assert asked == ["/"]
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["a bad night", "a dry run", "a quiet night"])
def test_every_text_stands_out_from_its_ground(
    show: t.Callable[..., Shown], name: str, scheme: t.Literal["light", "dark"]
) -> None:
    page = show(REPORTS[name](), 1400, scheme).page
    unfold(page)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 50
    assert [row for row in found if row[0] < 4.5] == []


def test_night_and_day_differ(show: t.Callable[..., Shown]) -> None:
    grounds = [
        show(sample.report(), 1400, scheme).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert len(set(grounds)) == 2


def test_evidence_opens_without_a_script(show: t.Callable[..., Shown]) -> None:
    page = show(sample.report(), 1400).page
    evidence = page.locator("details.evidence").first
    assert not evidence.get_by_text("/dev/vda2").is_visible()
    evidence.locator("summary").click()
    assert evidence.get_by_text("/dev/vda2").is_visible()


def test_a_step_leads_from_its_finding_and_a_command_is_selected_whole(show: t.Callable[..., Shown]) -> None:
    page = show(sample.report(), 1400).page
    page.get_by_role("link", name="What to do: 1", exact=True).click()
    step = page.locator("#step-1")
    box = step.bounding_box()
    assert box is not None and 0 <= box["y"] < HEIGHT
    step.locator(".command").click()
    assert page.evaluate("getSelection().toString()") == (
        "ansible-playbook njord.telemetry.retention_cleanup --check --diff --limit njord-1"
    )


def test_on_paper_the_evidence_is_there(show: t.Callable[..., Shown]) -> None:
    page = show(sample.report(), 1400).page
    page.emulate_media(media="print")
    assert page.locator("details.evidence").first.get_by_text("/dev/vda2").is_visible()


def test_charts_are_named_for_those_who_do_not_see_them(show: t.Callable[..., Shown]) -> None:
    page = show(sample.report(), 1400).page
    for name in ("Disk of /var/log/njord", "Series by metric", "Alerts of 7 days"):
        assert page.get_by_role("img", name=name).is_visible()
