"""The web page of a scene, as a browser on the same machine sees it.

python Testing/benchmarks/web_page.py [--quick] [--rounds 20] [--out FILE.json]

Needs the packages of .[web], playwright and Chromium.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from results import Result, Row, table_of, write_results
from rethreshold import lesion_map, result_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

NAME = "web-page"
FIRST_S, STEP_S, THRESHOLD_S = 3.0, 0.15, 0.5
_VIEWS = ("Red", "Yellow", "Green")
# In the browser, from an event to the frame after the page has changed.
_UNTIL = """
([act, done]) => new Promise(resolve => {
  const before = done(), began = performance.now();
  const look = () => done() === before ? requestAnimationFrame(look) : resolve((performance.now() - began) / 1000);
  act(); requestAnimationFrame(look);
})"""
_PICTURES = "[...document.querySelectorAll('[data-view] img')].filter(one => one.complete && one.naturalWidth).length"


def measure(argv: Sequence[str] = ()) -> Result:
    """All rows; ``--quick`` takes a small map and few rounds."""
    from playwright.sync_api import sync_playwright
    from web_scenes import CHROMIUM, page_of, save_results

    arguments = _parser().parse_args(argv)
    shape, count = ((96,) * 3, 20) if arguments.quick else ((181, 217, 181), 100)
    rounds = 3 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory() as folder:
        scene = save_results(Path(folder) / "scene.mrb", result_of(lesion_map(shape, count)))
        began = time.perf_counter()
        with page_of(scene) as address, sync_playwright() as playwright:
            start = time.perf_counter() - began
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            first = [_first_view(browser, address) for _ in range(max(2, rounds // 4))]
            page = browser.new_page(viewport={"width": 1360, "height": 860})
            page.goto(address)
            page.wait_for_function(f"{_PICTURES} === 4")
            steps = [_step(page, _VIEWS[n % 3], n) for n in range(rounds * 3)]
            changes = [_threshold(page, 0.3 + 0.4 * ((7 * n) % rounds) / rounds) for n in range(rounds)]
            browser.close()
    rows = (
        _row("first view", first[0], FIRST_S),  # the first, when the server has drawn nothing yet
        _row("slice step", median(steps), STEP_S),
        _row("threshold change", max(changes), THRESHOLD_S),
        Row("  its median", "s", median(changes)),
        Row("start of the command", "s", start),
    )
    return Result(NAME, rows, {"shape": shape, "first_s": first, "steps_s": steps, "thresholds_s": changes})


def _row(what: str, seconds: float, limit: float) -> Row:
    return Row(what, "s", seconds, None, None, f"<= {limit:g} s", seconds <= limit)


def _first_view(browser: Any, address: str) -> float:
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(f"{_PICTURES} === 4")
    taken = time.perf_counter() - began
    page.close()
    return taken


def _step(page: Any, view: str, number: int) -> float:
    key = "ArrowUp" if number % 6 < 3 else "ArrowDown"
    act = (
        f"() => document.querySelector('[data-view={view}]')"
        f".dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
    )
    return _timed(page, act, f"() => document.querySelector('[data-view={view}] img').src")


def _threshold(page: Any, value: float) -> float:
    act = (
        "() => { const one = document.querySelector('#threshold');"
        f" one.value = {value:.2f}; one.dispatchEvent(new Event('input')); }}"
    )
    shown = "() => document.querySelector('[data-view=Green] img').src"  # the last of the slices to be drawn
    taken = _timed(page, act, shown)
    page.wait_for_timeout(900)  # the surfaces are made when the slider rests
    return taken


def _timed(page: Any, act: str, done: str) -> float:
    return page.evaluate(f"() => ({_UNTIL})([{act}, {done}])")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    return parser


if __name__ == "__main__":
    result = measure(sys.argv[1:])
    print(table_of(result.rows))
    out = _parser().parse_args(sys.argv[1:]).out
    if out is not None:
        write_results([result], out)
