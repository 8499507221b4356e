"""``xtl view``: who is let in, and how it ends."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from web_browser import PATIENCE_MS, at_rest, is_said, page_in
from web_scenes import NEEDS_BROWSER, NEEDS_TRAME, page_of, save_images
from XTLLib.scene.self_test import small_brain

slicer = pytest.importorskip("slicer")
pytestmark = [NEEDS_TRAME, pytest.mark.timeout(180)]

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def address(work):
    with page_of(work[0]) as found:
        yield found


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


@pytest.fixture(scope="module")
def guarded(work):
    """The address of a page that is open to others, with its token."""
    with page_of(work[0], "--host", "0.0.0.0", "--token", TOKEN) as said:
        assert said.endswith(f"?token={TOKEN}")
        yield f"http://127.0.0.1:{urlsplit(said).port}/"


def test_a_token_is_asked_for_before_anything_else(guarded):
    for path, more in (("", {}), ("index.html", {}), ("index.html?token=wrong", {}), ("ws", WEBSOCKET)):
        assert ask(guarded, path, **more)[:2] == (403, b"")
    status, content, headers = ask(guarded, f"?token={TOKEN}")
    assert (status, content) == (303, b"")
    cookie = headers["Set-Cookie"]
    assert TOKEN not in cookie and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert ask(guarded, "index.html", Cookie=cookie.partition(";")[0])[0] == 200
    assert ask(guarded, "index.html", Cookie="xtl-page=guessed")[0] == 403


@NEEDS_BROWSER
def test_a_browser_with_the_token_sees_the_scene_and_one_without_sees_nothing(guarded, browser):
    opened = browser.new_page()
    with pytest.raises(Exception, match="ERR_HTTP_RESPONSE_CODE_FAILURE"):  # no content
        opened.goto(guarded)
    opened.close()
    with page_in(browser, f"{guarded}?token={TOKEN}") as opened:
        assert TOKEN not in opened.url


@NEEDS_BROWSER
def test_browsers_may_go_away_while_pictures_are_drawn(work, browser):
    """page_of sees that nothing is said of it."""
    with page_of(work[0]) as address:
        for _ in range(3):
            with page_in(browser, address) as opened:
                opened.evaluate("() => { for (let n = 0; n < 30; n++) trame.trigger('turn', [3, 1]) }")
        with page_in(browser, address) as opened:
            assert opened.locator("tbody tr").count() > 1


@NEEDS_BROWSER
def test_the_page_is_not_replaced_by_the_words_that_announce_it(address, browser):
    """trame's own first page puts "Loading..." in the place of what is there when these words arrive late."""
    opened = browser.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    late = []
    opened.route("**/loading.tpl", lambda route: late.append(route))
    opened.goto(address, wait_until="commit")
    opened.wait_for_selector("[data-view=Surfaces] img")
    for route in late:
        route.continue_()
    at_rest(opened)
    assert opened.locator("[data-view=Surfaces] img").count() == 1
    assert opened.title().startswith("XTL: ")
    opened.close()


# --- how it ends ----------------------------------------------------------------------------------------


@NEEDS_BROWSER
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl+C", "terminated"])
def test_it_ends_with_its_worker_and_the_page_says_so(tmp_path, work, browser, end):
    """In the middle of a run, of a scene without a result; page_of looks at what is left behind."""
    scene = save_images(tmp_path / "images.mrb", small_brain())
    before = scene.read_bytes()
    opened = browser.new_page()
    with page_of(scene, "--bundle", str(work[0].parent / "bundles" / "untrained-ms"), end=end) as address:
        opened.goto(address)
        is_said(opened, "#summary", "The scene holds no result of XTL.")
        assert "Run the model to make one." in opened.inner_text(".lesions")
        opened.click("#run")
        opened.wait_for_selector("progress")
    is_said(opened, "[role=alert]", "Start xtl view again")
    opened.close()
    assert scene.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["images.mrb"]


@NEEDS_BROWSER
def test_a_page_that_cannot_be_drawn_ends_with_its_error(work, browser):
    broken = """
from XTLLib.scene import offscreen_views
def fail(*_):
    raise RuntimeError("out of order")
offscreen_views.SliceView.picture = fail"""
    opened = browser.new_page()
    with page_of(work[0], prelude=broken, code=1) as address:
        opened.goto(address)
        is_said(opened, "h1", "The page is no longer connected")
    opened.close()
