"""``xtl view`` in a real browser: what is seen, what follows a click or a slider, and who is let in."""

from __future__ import annotations

import io
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
from scene_cases import GRIDS, segmentation_result
from web_scenes import CHROMIUM, NEEDS_BROWSER, NEEDS_TRAME, page_of, refusal, save_results
from XTLLib.bundle.load import load_bundle
from XTLLib.inference.classify import classify_case
from XTLLib.inference.lesions import find_lesions
from XTLLib.inference.segment import segment_case
from XTLLib.scene.self_test import (
    small_brain,
    small_prostate,
    write_classification_bundle,
    write_segmentation_bundle,
)

slicer = pytest.importorskip("slicer")
pytestmark = [NEEDS_TRAME, pytest.mark.timeout(180)]

VIEWS = ("Red", "Yellow", "Green")
TOKEN = "a-token-that-is-long-enough"
_PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A scene with lesions and findings of untrained models, which lie beside it."""
    folder = tmp_path_factory.mktemp("page")
    brain = segment_case(small_brain(), load_bundle(write_segmentation_bundle(folder / "bundles" / "untrained-ms")))
    bundle = write_classification_bundle(folder / "bundles" / "untrained-prostate")
    prostate = classify_case(small_prostate(), load_bundle(bundle))
    save_results(folder / "scene.mrb", brain, prostate)
    return folder / "scene.mrb", brain, prostate


@pytest.fixture(scope="module")
def address(work):
    with page_of(work[0]) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(address, browser):
    opened = browser.new_page(viewport={"width": 1280, "height": 860})
    opened.set_default_timeout(_PATIENCE_MS)
    opened.asked = []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("websocket", lambda socket: opened.asked.append(socket.url))
    opened.goto(address)
    opened.wait_for_selector("[data-view=Surfaces] img")
    opened.select_option("#result", "0")
    opened.wait_for_timeout(300)
    settled(opened, lambda: [picture(opened, name).sum() for name in VIEWS])
    yield opened
    opened.close()


def picture(page, name: str) -> np.ndarray:
    """(height, width, 3) what a view's image element shows."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(page.locator(f"[data-view={name}] img").screenshot())).convert("RGB"), int)


def reddish(pixels: np.ndarray) -> int:
    """Pixels in the lesions' colour, pure or over an image."""
    return int(((pixels[..., 0] - pixels[..., 1] > 40) & (pixels[..., 0] - pixels[..., 2] > 40)).sum())


def settled(page, value) -> None:
    """Wait until ``value()`` stays as it is."""
    before = None
    for _ in range(60):
        now = value()
        if now == before:
            return
        before = now
        page.wait_for_timeout(250)
    raise AssertionError("it does not settle")


def move_slider(page, selector: str, value: float) -> None:
    page.locator(selector).evaluate(
        "(element, value) => { element.value = value; element.dispatchEvent(new Event('input')); }", value
    )


def row_count(page) -> int:
    return page.locator("tbody tr").count()


def is_said(page, selector: str, words: str) -> None:
    page.wait_for_function(
        "([selector, words]) => document.querySelector(selector)?.innerText.includes(words)", arg=[selector, words]
    )


# --- seen ---------------------------------------------------------------------------------------------


@NEEDS_BROWSER
def test_four_views_show_image_and_lesions(page):
    page.locator("tbody tr").first.click()  # the largest lesion, which is in all slices then
    page.wait_for_selector("tbody tr.chosen")
    page.wait_for_timeout(500)
    for name in VIEWS:
        pixels = picture(page, name)
        grey = np.ptp(pixels, axis=-1) < 12
        assert (pixels[grey].max(axis=-1) > 60).mean() > 0.1, f"{name} shows no image"
        assert reddish(pixels) > 20, f"{name} shows no lesion"
    assert reddish(picture(page, "Surfaces")) > 50


@NEEDS_BROWSER
def test_it_says_what_it_is_and_loads_nothing_from_elsewhere(page, address):
    assert "Research software, not a medical device" in page.inner_text(".foot")
    assert {urlsplit(url).hostname for url in page.asked if not url.startswith("data:")} == {"127.0.0.1"}
    assert urlsplit(address).hostname == "127.0.0.1"


@NEEDS_BROWSER
@pytest.mark.parametrize("size", [(1280, 860), (400, 800)], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_the_style_follows_the_system(address, browser, size, scheme):
    opened = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    opened.goto(address)
    opened.wait_for_selector("tbody tr")
    assert opened.evaluate("document.documentElement.scrollWidth") <= size[0]
    for element in opened.locator("h1, h2, label, button, .words, .foot span, .name").all():
        box = element.bounding_box()
        if box is not None and element.evaluate("e => !e.closest('.scroll')"):
            assert box["x"] >= 0 and box["x"] + box["width"] <= size[0] + 1, element.inner_text()
            assert element.evaluate("e => e.scrollWidth <= e.clientWidth + 1 || !e.clientWidth"), element.inner_text()
    ground = opened.evaluate("getComputedStyle(document.querySelector('.page')).backgroundColor")
    brightness = sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(","))
    assert (brightness > 600) == (scheme == "light")
    opened.close()


@NEEDS_BROWSER
def test_views_are_drawn_in_their_new_size_though_the_client_awaits_an_answer(page):
    def sharpness(name: str) -> str:
        return f"document.querySelector('[data-view={name}] img').naturalWidth"

    before = {name: page.evaluate(sharpness(name)) for name in (*VIEWS, "Surfaces")}
    page.evaluate("trame.state.client = {...trame.client, isBusy: () => true}")  # it sends no changed state then
    page.set_viewport_size({"width": 1480, "height": 860})
    for name, width in before.items():
        page.wait_for_function(f"{sharpness(name)} === {width + 100}")


# --- done ---------------------------------------------------------------------------------------------


@NEEDS_BROWSER
def test_the_table_follows_the_threshold_as_the_library_counts(page, work):
    brain = work[1]
    assert row_count(page) == len(brain.lesions) > 1
    for share in (0.98, 1.01):
        threshold = round(min(brain.threshold * share, 0.99), 2)
        move_slider(page, "#threshold", threshold)
        _, expected = find_lesions(brain.probability, threshold, brain.minimum_volume_mm3)
        words = f"{len(expected)} {'lesion' if len(expected) == 1 else 'lesions'},"
        is_said(page, "#summary", words)
        assert row_count(page) == len(expected)
    move_slider(page, "#threshold", 1)
    is_said(page, "#summary", "0 lesions")
    move_slider(page, "#threshold", brain.threshold)
    is_said(page, "#summary", f"{len(brain.lesions)} lesion")


@NEEDS_BROWSER
def test_a_row_brings_the_views_to_its_lesion(page, work):
    lesion = work[1].lesions[1]
    page.locator("tbody tr button", has_text="2").first.press("Enter")  # by keyboard
    page.wait_for_function("document.querySelector('tbody tr.chosen button')?.innerText === '2'")
    settled(page, lambda: [picture(page, name).sum() for name in VIEWS])
    # an oblique image: each view stands at the lesion's place along the normal of its own plane
    axes = work[1].label.grid.ijk_to_ras[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    expected = sorted(abs(axes.T @ np.asarray(lesion.position_ras)))
    names = [page.locator(f".view:has([data-view={name}]) .name") for name in VIEWS]
    assert {name.inner_text().split()[0] for name in names} == {"Axial", "Sagittal", "Coronal"}
    assert sorted(abs(float(name.inner_text().split()[-2])) for name in names) == pytest.approx(
        expected, abs=1.0
    )  # the slider before has left the threshold within 0.005 of the library's


@NEEDS_BROWSER
def test_wheel_keys_clicks_and_drags(page):
    def label(name: str) -> float:
        return float(page.locator(f".view:has([data-view={name}]) .name").inner_text().split()[-2].replace("−", "-"))

    page.click("text=Reset views")
    settled(page, lambda: picture(page, "Surfaces").mean())
    red = page.locator("[data-view=Red]")
    before = label("Red")
    red.hover()
    page.mouse.wheel(0, -100)
    page.wait_for_function(f"!document.querySelector('.view .name').innerText.includes('{before:.1f} mm')")
    assert abs(label("Red") - before) == pytest.approx(4.0, abs=0.11)  # one slice
    red.press("ArrowDown")
    is_said(page, ".view .name", f"{before:.1f} mm")
    yellow = label("Yellow")
    box = red.bounding_box()
    red.click(position={"x": box["width"] / 2 + 30, "y": box["height"] / 2 - 30})
    page.wait_for_timeout(600)
    assert label("Yellow") != yellow and label("Red") == pytest.approx(before, abs=0.11)
    settled(page, lambda: picture(page, "Green").mean())
    dark = picture(page, "Green").mean()
    drag(page, "Green", 0, -80)  # up: brighter
    assert picture(page, "Green").mean() > dark + 5
    page.click("text=Reset views")
    settled(page, lambda: picture(page, "Green").mean())
    assert picture(page, "Green").mean() == pytest.approx(dark, rel=0.3)
    view = picture(page, "Surfaces")
    drag(page, "Surfaces", 90, 0)
    assert np.abs(picture(page, "Surfaces") - view).mean() > 1


def drag(page, name: str, right: float, down: float) -> None:
    box = page.locator(f"[data-view={name}]").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=5)
    page.mouse.up()
    page.wait_for_timeout(600)


@NEEDS_BROWSER
def test_the_model_beside_the_scene_runs_to_its_end_and_gives_the_same_lesions(page, work):
    assert "untrained-ms" in page.inner_text("#run")
    move_slider(page, "#threshold", 1)
    is_said(page, "#summary", "0 lesions")
    page.click("#run")
    is_said(page, "#status", "Done.")
    is_said(page, "#summary", f"{len(work[1].lesions)} lesion")
    assert float(page.input_value("#threshold")) == pytest.approx(work[1].threshold, abs=0.006)


@NEEDS_BROWSER
def test_a_run_can_be_cancelled(page, work):
    page.click("#run")
    page.click("#cancel")
    is_said(page, "#status", "ancelled")
    assert row_count(page) == len(work[1].lesions)
    page.wait_for_selector("#run:not([disabled])")


@NEEDS_BROWSER
def test_findings_are_a_result_like_any_other(page, work):
    page.select_option("#result", "1")
    is_said(page, "#lesions", "Findings")
    assert row_count(page) == len(work[2].findings) == 2
    assert page.locator("#threshold").count() == 0
    for rated in work[2].findings:
        assert f"{rated.probability:.4g}" in page.inner_text("tbody")
    page.click("#run")
    is_said(page, "#status", "Done.")
    assert row_count(page) == 2


# --- who is let in --------------------------------------------------------------------------------------


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def ask(address: str, path: str = "index.html", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers of a request, redirections not followed."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{address}{path}", headers=names)
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=20) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read(), dict(refused.headers)


WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize("more", [{}, WEBSOCKET], ids=["page", "websocket"])
def test_other_names_and_other_sites_pages_are_refused(address, more):
    path = "ws" if more else "index.html"
    assert ask(address, path, Host="elsewhere.example", **more)[:2] == (403, b"")
    assert ask(address, path, Origin="http://elsewhere.example", **more)[:2] == (403, b"")
    assert ask(address, path, Origin="null", **more)[:2] == (403, b"")


def test_the_page_may_load_from_itself_only_and_no_file_of_this_machine_is_served(address):
    status, _, headers = ask(address)
    assert status == 200
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert ask(address, "../../../etc/passwd")[0] in (403, 404)
    assert ask(address, "%2e%2e/%2e%2e/etc/passwd")[0] in (403, 404)


def test_a_token_is_asked_for_before_anything_else(work):
    with page_of(work[0], "--host", "0.0.0.0", "--token", TOKEN) as said:
        base = f"http://127.0.0.1:{urlsplit(said).port}/"
        assert said.endswith(f"?token={TOKEN}")
        for path, more in (("", {}), ("index.html", {}), ("index.html?token=wrong", {}), ("ws", WEBSOCKET)):
            assert ask(base, path, **more)[:2] == (403, b"")
        status, content, headers = ask(base, f"?token={TOKEN}")
        assert (status, content) == (303, b"")
        cookie = headers["Set-Cookie"]
        assert TOKEN not in cookie and "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert ask(base, "index.html", Cookie=cookie.partition(";")[0])[0] == 200
        assert ask(base, "index.html", Cookie="xtl-page=guessed")[0] == 403


@NEEDS_BROWSER
def test_a_browser_with_the_token_sees_the_scene_and_one_without_sees_nothing(work, browser):
    with page_of(work[0], "--token", TOKEN) as said:
        opened = browser.new_page()
        with pytest.raises(Exception, match="ERR_HTTP_RESPONSE_CODE_FAILURE"):  # no content
            opened.goto(said.partition("?")[0])
        opened.close()
        opened = browser.new_page()
        opened.goto(said)
        opened.wait_for_selector("[data-view=Red] img", timeout=_PATIENCE_MS)
        assert TOKEN not in opened.url
        opened.close()


# --- what does not start ----------------------------------------------------------------------------------


def test_bad_input_is_one_line_and_no_traceback(tmp_path, work):
    (tmp_path / "text.mrb").write_text("no archive")
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = str(taken.getsockname()[1])
    cases = {
        "nowhere.mrb does not exist": [str(tmp_path / "nowhere.mrb")],
        "text.mrb is no whole scene file": [str(tmp_path / "text.mrb")],
        f"the port {port} of 127.0.0.1 is taken": [str(work[0]), "--port", port],
        "--host 0.0.0.0 shows the scene to everybody": [str(work[0]), "--host", "0.0.0.0"],
        "the token is shorter than 16": [str(work[0]), "--host", "0.0.0.0", "--token", "short"],
    }
    for words, arguments in cases.items():
        code, error = refusal(*arguments)
        assert code == 2, error
        assert words in error and error.startswith("xtl: error: ") and len(error.splitlines()) == 1
    taken.close()


@NEEDS_BROWSER
@pytest.mark.parametrize("name", ["left-handed oblique", "sagittal"])
def test_a_ball_on_any_grid_comes_to_the_middle_of_every_view(tmp_path, browser, name):
    scene = save_results(tmp_path / "scene.mrb", segmentation_result(GRIDS[name]))
    with page_of(scene) as address:
        opened = browser.new_page(viewport={"width": 1280, "height": 860})
        opened.goto(address)
        opened.wait_for_selector("[data-view=Surfaces] img")
        opened.locator("tbody tr").first.click()
        opened.wait_for_selector("tbody tr.chosen")
        opened.wait_for_timeout(500)
        for view in VIEWS:
            pixels = picture(opened, view)
            yellow = (pixels[..., 0] > 170) & (pixels[..., 1] > 150) & (pixels[..., 2] < 130)
            rows, columns = np.nonzero(yellow)
            assert rows.size > 50, f"{view} shows no outline"
            middle = rows.mean() / pixels.shape[0], columns.mean() / pixels.shape[1]
            assert middle == pytest.approx((0.5, 0.5), abs=0.06), view
        opened.close()
