"""``xtl view`` in a real browser: what is seen, and what follows a click or a slider."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import numpy as np
import pytest
from scene_cases import GRIDS, segmentation_result
from web_browser import at_rest, is_said, page_in, picture
from web_scenes import NEEDS_BROWSER, NEEDS_TRAME, children_of, page_of, save_results, stopped
from XTLLib.inference.lesions import find_lesions

slicer = pytest.importorskip("slicer")
pytestmark = [NEEDS_TRAME, pytest.mark.timeout(180)]

VIEWS = ("Red", "Yellow", "Green")
# Words, left and right edge, and whether all of it is seen, of what does not stand in a table that is rolled.
_BOXES = """() => [...document.querySelectorAll("h1, h2, label, button, .words, .foot span, .name, .level, .edge")]
  .filter(one => !one.closest(".scroll") && one.clientWidth).map(one => {
    const box = one.getBoundingClientRect();
    return [one.innerText, box.left, box.right, one.scrollWidth <= one.clientWidth + 1];
  })"""


@pytest.fixture(scope="module")
def address(work):
    with page_of(work[0]) as found:
        yield found


@pytest.fixture
def page(address, browser):
    with page_in(browser, address) as opened:
        opened.select_option("#result", "0")
        at_rest(opened)
        yield opened


def reddish(pixels: np.ndarray) -> int:
    """Pixels in the lesions' colour, pure or over an image."""
    return int(((pixels[..., 0] - pixels[..., 1] > 40) & (pixels[..., 0] - pixels[..., 2] > 40)).sum())


def move_slider(page, selector: str, value: float) -> None:
    page.locator(selector).evaluate(
        "(element, value) => { element.value = value; element.dispatchEvent(new Event('input')); }", value
    )
    at_rest(page)  # "0 lesions" is also in "10 lesions"


def label(page, name: str) -> float:
    """Where a view's slice lies, in mm, as it says."""
    return float(page.locator(f".view:has([data-view={name}]) .name").inner_text().split()[-2].replace("−", "-"))


def row_count(page) -> int:
    return page.locator("tbody tr").count()


# --- seen ---------------------------------------------------------------------------------------------


@NEEDS_BROWSER
def test_four_views_show_image_and_lesions(page):
    page.locator("tbody tr").first.click()  # the largest lesion, which is in all slices then
    at_rest(page)
    assert page.locator("tbody tr.chosen").count() == 1
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
    with page_in(browser, address, size, color_scheme=scheme) as opened:
        assert opened.evaluate("document.documentElement.scrollWidth") <= size[0]
        boxes = opened.evaluate(_BOXES)
        assert len(boxes) > 20
        for words, left, right, is_whole in boxes:
            assert left >= 0 and right <= size[0] + 1 and is_whole, words
        ground = opened.evaluate("getComputedStyle(document.querySelector('.page')).backgroundColor")
        brightness = sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(","))
        assert (brightness > 600) == (scheme == "light")


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
    at_rest(page)
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
    page.click("text=Reset views")
    at_rest(page)
    red = page.locator("[data-view=Red]")
    before = label(page, "Red")
    red.hover()
    page.mouse.wheel(0, -100)
    page.wait_for_function(f"!document.querySelector('.view .name').innerText.includes('{before:.1f} mm')")
    assert abs(label(page, "Red") - before) == pytest.approx(4.0, abs=0.11)  # one slice
    red.press("ArrowDown")
    is_said(page, ".view .name", f"{before:.1f} mm")
    yellow = label(page, "Yellow")
    box = red.bounding_box()
    red.click(position={"x": box["width"] / 2 + 30, "y": box["height"] / 2 - 30})
    at_rest(page)
    assert label(page, "Yellow") != yellow and label(page, "Red") == pytest.approx(before, abs=0.11)
    dark = picture(page, "Green").mean()
    drag(page, "Green", 0, -80)  # up: brighter
    assert picture(page, "Green").mean() > dark + 5
    page.click("text=Reset views")
    at_rest(page)
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
    at_rest(page)


@NEEDS_BROWSER
def test_everything_can_be_done_by_keyboard(page):
    """Every control is reached by the tabulator, is seen to have the focus, and has a name."""
    named = set()
    page.locator("h1").click()
    for _ in range(200):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(one => one === document.body ? '' : one.ariaLabel || one.labels?.[0]?.innerText || one.innerText"
            " || document.getElementById(one.getAttribute('aria-labelledby'))?.innerText)(document.activeElement)"
        )
        if not name:
            break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", name
        named.add(name.split()[0])
    assert named >= {"Reset", "Light", "Result", "Threshold", "Minimum", "Show", "Run", "Axial", "Slice", "Surfaces"}
    red, text = page.locator("[data-view=Red]"), ".view .level"
    red.focus()
    before, contrast, wide = label(page, "Red"), page.locator(text).first.inner_text(), picture(page, "Red")
    for key in ("PageUp", "+", "Shift+ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    at_rest(page)
    assert abs(label(page, "Red") - before) > 4.1 and page.locator(text).first.inner_text() != contrast
    assert np.abs(picture(page, "Red") - wide).mean() > 1
    view = picture(page, "Surfaces")
    page.locator("[data-view=Surfaces]").press("ArrowLeft")
    at_rest(page)
    assert np.abs(picture(page, "Surfaces") - view).mean() > 1


@NEEDS_BROWSER
def test_a_page_that_is_loaded_again_and_one_of_another_size_show_the_same(page, address, browser):
    page.locator("tbody tr").first.click()
    at_rest(page)
    before = picture(page, "Green")
    page.reload()
    page.wait_for_selector("[data-view=Surfaces] img")
    at_rest(page)
    assert page.locator("tbody tr.chosen").count() == 1
    assert np.abs(picture(page, "Green") - before).mean() < 1
    width = page.evaluate("document.querySelector('[data-view=Green] img').naturalWidth")
    with page_in(browser, address, (700, 700)) as small:
        assert small.evaluate("document.querySelector('[data-view=Green] img').naturalWidth") != width
        small.locator("tbody tr").nth(1).click()
        at_rest(small)
        assert page.locator("tbody tr.chosen button").inner_text() == "2"
    page.locator("[data-view=Green]").hover()  # it is used again, in its own size
    page.wait_for_function(f"document.querySelector('[data-view=Green] img').naturalWidth === {width}")


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
def test_a_run_can_be_cancelled_also_by_a_page_that_was_loaded_meanwhile(page, work):
    with stopped(children_of(os.getpid(), "worker")):  # else it may be done before
        page.locator("#run").dblclick()
        page.reload()
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


# --- where it is ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    """A page with a ball on each of two grids."""
    names = ("left-handed oblique", "sagittal")
    results = [segmentation_result(GRIDS[name]) for name in names]
    with page_of(save_results(tmp_path_factory.mktemp("balls") / "scene.mrb", *results)) as address:
        yield address


@NEEDS_BROWSER
@pytest.mark.parametrize("number", ["0", "1"], ids=["left-handed oblique", "sagittal"])
def test_a_ball_on_any_grid_comes_to_the_middle_of_every_view(balls, browser, number):
    with page_in(browser, balls) as opened:
        opened.select_option("#result", number)
        opened.locator("tbody tr").first.click()
        at_rest(opened)
        opened.add_style_tag(content=".cross, .edge { display: none }")
        for view in VIEWS:
            pixels = picture(opened, view)
            yellow = (pixels[..., 0] > 170) & (pixels[..., 1] > 150) & (pixels[..., 2] < 130)
            rows, columns = np.nonzero(yellow)
            assert rows.size > 50, f"{view} shows no outline"
            middle = rows.mean() / pixels.shape[0], columns.mean() / pixels.shape[1]
            assert middle == pytest.approx((0.5, 0.5), abs=0.06), view
