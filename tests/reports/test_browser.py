"""The page in a real browser: nothing is requested, nothing fails, nothing from outside runs."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import HOSTILE, sample

from assaymark.reports import html

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chrome = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    driver = shutil.which("chromedriver")
    if chrome is None or driver is None:
        pytest.skip("no Chromium with chromedriver on this machine (Debian: chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    for flag in FLAGS:
        options.add_argument(flag)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's sandbox does not start as root
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    chromium = webdriver.Chrome(options=options, service=service)
    yield chromium
    chromium.quit()


def visit(browser: Any, path: Path, text: str) -> list[str]:
    """Open a report with `text` in every field; the URLs the page asked for."""
    path.write_text(html.render(sample(text)), encoding="utf-8")
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(path.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    # chrome:// is the browser's own first tab
    return [
        url
        for url in urls
        if not url.startswith(("data:", "chrome:", "chrome-untrusted:")) and url != path.as_uri()
    ]


@pytest.mark.parametrize("text", ["plain", *HOSTILE])
def test_no_request_no_error_and_no_foreign_script(browser: Any, tmp_path: Path, text: str) -> None:
    assert visit(browser, tmp_path / "report.html", text) == []
    assert browser.get_log("browser") == []
    assert browser.title == "Assaymark report: fail"
    verdict = browser.find_element("id", "verdict")
    assert verdict.is_displayed()
    assert verdict.location["y"] < 200
    assert "A limit is broken" in verdict.text
    shown = browser.find_element("tag name", "body").text
    if text.startswith("</script>"):
        assert "</script><script>document.title='owned'</script>" in shown


def test_every_picture_is_shown(browser: Any, tmp_path: Path) -> None:
    visit(browser, tmp_path / "report.html", "plain")
    widths = browser.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert widths == [8, 8, 8, 8]


def test_the_filter_hides_what_is_good_and_printing_shows_all(browser: Any, tmp_path: Path) -> None:
    visit(browser, tmp_path / "report.html", "plain")
    rows = browser.find_elements("css selector", "tr[data-verdict]")
    assert all(row.is_displayed() for row in rows)
    browser.find_element("css selector", "[data-show=bad]").click()
    hidden = {row.get_attribute("data-verdict") for row in rows if not row.is_displayed()}
    assert hidden == {"pass", "measured"}
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    details = browser.find_elements("tag name", "details")
    assert all(item.get_attribute("open") for item in details)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert all(row.is_displayed() for row in rows)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def contrast(first: list[float], second: list[float]) -> float:
    """Contrast ratio of two sRGB colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: list[float]) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (value / 255 for value in colour[:3])
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_readable(browser: Any, tmp_path: Path, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    visit(browser, tmp_path / "report.html", "plain")
    script = """
    const parse = c => c.match(/[\\d.]+/g).map(Number);
    const ground = e => {
      for (; e; e = e.parentElement) {
        const c = parse(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] === 1) return c;
      }
    };
    return [...document.querySelectorAll("h1,h2,h3,p,td,th,.badge,dt,dd,li,a,summary,pre,small")]
      .filter(e => e.innerText).map(e => [parse(getComputedStyle(e).color), ground(e), e.outerHTML])
    """
    pairs = browser.execute_script(script)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(pairs) > 40
    for ink, ground, element in pairs:
        assert contrast(ink, ground) >= 4.5, element[:120]
    page = pairs[0][1]
    assert (sum(page[:3]) > 380) is (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_plot_is_seen(browser: Any, tmp_path: Path, scheme: str) -> None:
    """WCAG 2.2: marks 3 to 1, letters 4.5 to 1; and twelve colours that differ."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    visit(browser, tmp_path / "report.html", "plain")
    script = """
    const parse = c => c.match(/[\\d.]+/g).map(Number);
    const plot = document.querySelector(".plot");
    const of = (name, key) => [...plot.querySelectorAll(name)].map(e => parse(getComputedStyle(e)[key]));
    return [parse(getComputedStyle(plot.closest(".sheet")).backgroundColor),
            of("div > svg > g > .marks", "stroke"), of("div > svg text", "fill"), of("bdi", "color"),
            of(".diagonal", "stroke")]
    """
    ground, marks, letters, names, diagonal = browser.execute_script(script)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(marks) == len({tuple(mark) for mark in marks}) == 12
    assert len(letters) == 12
    assert min(contrast(mark, ground) for mark in (*marks, *diagonal)) >= 3
    assert min(contrast(letter, ground) for letter in (*letters, *names)) >= 4.5
    for i, mark in enumerate(marks):
        for other in marks[:i]:
            assert sum(abs(a - b) for a, b in zip(mark, other, strict=True)) > 40


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("text", ["plain", "W" * 10_000, "\u202e" + "ab " * 3_000])
def test_long_text_does_not_widen_the_page(
    browser: Any, tmp_path: Path, text: str, width: int
) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        visit(browser, tmp_path / "report.html", text)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        inside = """
        return [...document.querySelectorAll(".plot > div > svg")].map(svg => {
          const whole = svg.getBoundingClientRect();
          return [...svg.querySelectorAll("text")].map(e => e.getBoundingClientRect())
            .every(r => r.left > whole.left - 8 && r.right < whole.right + 8 && r.bottom < whole.bottom + 8)
        })
        """
        assert browser.execute_script(inside) == [True, True]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
