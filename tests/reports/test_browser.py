"""The page in a real Chromium: phone and desk, light and dark, with and without scripts allowed.

EDGEPACK_TEST_PAGES=FOLDER leaves the pages and a screenshot of each there, to be looked at.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from edgepack import stats
from edgepack.names import VariantId
from edgepack.report import Report
from edgepack.reports import Build, Search, Trial, render
from edgepack.variant import Built, Judged, LayerReport

pytestmark = [pytest.mark.browser, pytest.mark.frameworks, pytest.mark.xdist_group("browser")]
MakeReport = Callable[..., Report]
PHONE, DESK = (390, 844), (1280, 900)
MOST_BYTES = 3_000_000
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip

LOOK = """(() => {
  const shown = element => element.getClientRects().length > 0;
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const paper = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter(e => shown(e)
    && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest('title'));
  const ink = e => rgb(getComputedStyle(e)[e.closest('svg') ? 'fill' : 'color']);
  const pale = texts.map(e => [contrast(light(ink(e)), light(paper(e))), e.textContent.slice(0, 40)]).filter(p => p[0] < 4.5);
  const clipped = [...document.querySelectorAll('svg text')].filter(shown).filter(text => {
    const own = text.getBoundingClientRect(), whole = text.closest('svg').getBoundingClientRect();
    return own.left < whole.left - 1 || own.right > whole.right + 1 || own.top < whole.top - 1 || own.bottom > whole.bottom + 1;
  }).map(text => text.textContent);
  const hidden = [...document.querySelectorAll('svg')].filter(shown).flatMap(svg => {
    const boxes = [...svg.querySelectorAll('text')].map(t => [t.getBoundingClientRect(), t.textContent]);
    return boxes.flatMap(([a, x], i) => boxes.slice(i + 1).filter(([b]) =>
      Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4
    ).map(([, y]) => `${x} / ${y}`));
  });
  return {
    width: document.documentElement.scrollWidth, text: document.body.innerText, pale, clipped, hidden,
    pictures: [...document.querySelectorAll('figure svg')].filter(shown).map(e => e.getAttribute('aria-label')),
    small: texts.filter(e => e.closest('svg') && e.getBoundingClientRect().height < 9).map(e => e.textContent),
  };
})()"""


class Browser:
    """One headless Chromium, spoken to in its DevTools protocol through two pipes: no port, no dependency."""

    def __init__(self, folder: Path) -> None:
        to_it, self._write = os.pipe()
        self._read, from_it = os.pipe()
        ends = [
            fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_it, from_it)
        ]  # clear of 3 and 4, where it looks for them

        def place() -> None:
            for end, wanted in zip(ends, (3, 4), strict=True):
                os.dup2(end, wanted)

        self._process = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={folder}"], pass_fds=(3, 4), preexec_fn=place,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (to_it, from_it, *ends):
            os.close(end)
        self._said = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    _session = ""

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Events that come before the answer are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._hear()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def wait(self, event: str) -> None:
        while not any(each["method"] == event for each in self.events):
            self._hear()

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._said:
            more = os.read(self._read, 1 << 20)
            assert more, "chromium ended"
            self._said += more
        message, self._said = self._said.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        if "method" in answer:
            self.events.append(answer)
        return answer

    def open(self, page: Path, size: tuple[int, int], scheme: str, scripts: bool) -> dict[str, Any]:
        """Loads it afresh; returns what `LOOK` sees. The check itself runs although the page's scripts may not."""
        self.events.clear()
        width, height = size
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.ask("Page.navigate", url=page.as_uri())
        self.wait("Page.loadEventFired")
        seen: dict[str, Any] = self.ask("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
        return seen

    def screenshot(self, file: Path, whole: bool = True, scale: float = 1) -> None:
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"clip": {**size, "scale": scale}} if whole else {}
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, **clip)["data"]
        file.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._write, b'{"id": 0, "method": "Browser.close"}\0')
        self._process.wait(20)
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("chromium"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("EDGEPACK_TEST_PAGES") or tmp_path_factory.mktemp("pages"))


def check(browser: Browser, page: Path, numbers: list[str]) -> None:
    """Wherever it is read: everything to be seen, nothing cut off, hidden, pale or asked for elsewhere."""
    assert page.stat().st_size < MOST_BYTES
    for size, scheme, scripts in (
        (PHONE, "light", False),
        (PHONE, "dark", True),
        (DESK, "light", True),
        (DESK, "dark", False),
    ):
        seen = browser.open(page, size, scheme, scripts)
        where = f"{page.stem}-{size[0]}-{scheme}"
        if os.environ.get("EDGEPACK_TEST_PAGES"):
            browser.screenshot(page.with_name(f"{where}.png"))
        assert seen["width"] == size[0], f"{where}: scrolls sideways"
        for number in numbers:
            assert number in seen["text"], where
        assert seen["pictures"] and all(seen["pictures"]), where
        for fault in ("pale", "clipped", "hidden", "small"):
            assert seen[fault] == [], f"{where}: {fault}"
        asked = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
        assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
        assert not [e for e in browser.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]


def test_a_valid_run_of_a_build_with_every_pass(
    browser: Browser, pages: Path, build: Build, make_report: MakeReport
) -> None:
    report = make_report(processes=5, samples=400, passes=True)
    page = pages / "valid.html"
    page.write_text(render([report], build))
    check(browser, page, [f"{report.summary.p50_ns / 1e6:.3f} ms", "0.9822", "Valid: nothing speaks", "64.7 %"])


def test_a_throttled_run(browser: Browser, pages: Path, make_report: MakeReport) -> None:
    report = make_report(trace="throttled", level=6.2e6, processes=5, samples=200)
    page = pages / "throttled.html"
    page.write_text(render([report]))
    check(browser, page, [f"{report.summary.p50_ns / 1e6:.2f} ms", "Invalid: do not rely", "throttled"])


def test_two_releases_in_turns(browser: Browser, pages: Path, make_report: MakeReport) -> None:
    a, b = make_report(processes=5, samples=100), make_report("emulated", level=3.9e5, processes=5, samples=100)
    page = pages / "turns.html"
    page.write_text(render([a, b], comparisons=[stats.compare(a, b, 0.05)], interleaved=True))
    check(browser, page, ["0.929 ×", "not a device latency", "1 valid, 1 invalid"])


def test_a_build_layer_by_layer(browser: Browser, pages: Path, build: Build) -> None:
    """As many layers as a MobileNet has, with the names that converters give them, and one that keeps almost nothing."""
    random = np.random.default_rng(4)
    layers = tuple(
        LayerReport(
            kind=("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")[index % 3],
            name=f"mobilenetv2_1.00_224/block_{index}_expand_BN/FusedBatchNormV3;mobilenetv2_1.00_224/block_{index}/Conv2D",
            sqnr_db=2.5 if index == 17 else float(random.uniform(18, 44)), cosine=0.99912, low=-12.25 - index, high=1.5e3,
            clipped=0.0002, shift=0.0131,
        )
        for index in range(54)
    )  # fmt: skip
    first = build.manifest.variants[0].id
    page = pages / "layers.html"
    page.write_text(render([], replace(build, layers={VariantId(first): layers})))
    check(browser, page, ["Layer by layer", "The 54 layers as numbers", "0.9822"])


@pytest.mark.parametrize("measured", [False, True])
def test_what_a_search_found(
    browser: Browser, pages: Path, build: Build, judged: tuple[Judged, ...], measured: bool
) -> None:
    """Forty trials, their names as long as a search gives them, many of them close to each other."""
    random = np.random.default_rng(5)
    made = [one.built for one in judged if isinstance(one.built, Built)]
    trials = []
    for number in range(40):
        built = made[number % len(made)]
        size = round(built.size_bytes * float(random.uniform(0.5, 1.3)))
        score = 0.9822 - 2e-8 * (90_000 - size) - 0.01 * float(random.random())
        ms = 4e-6 * size * float(random.uniform(0.8, 1.3)) if measured else None
        name = f"{built.precision} {50 * (number % 2)} % pruned, distilled, calibrated by mse, {built.format}, seed {number}"
        trials.append(
            Trial(
                number,
                name,
                structs.replace(built, size_bytes=size, score=score, drop=0.9844 - score, latency_ms=ms),
                front=number % 5 == 0,
            )
        )
    search = Search(tuple(trials), 120, 300, 150, "top1", 0.9844, measured)
    page = pages / f"search-{'measured' if measured else 'expected'}.html"
    page.write_text(render([], build, search=search))
    check(browser, page, ["What the search found", "40 trials over 120 recipes; 8 are on the front", trials[0].name])
