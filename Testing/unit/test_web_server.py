"""The page without a browser: what it needs, what it refuses, what browsers' calls in a bad moment do."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import sys
from contextlib import suppress

import pytest
from strange_scenes import attribute, good_scene, repacked
from web_scenes import NEEDS_TRAME, wait_until
from XTLLib.cli import main
from XTLLib.scene import web_server
from XTLLib.scene.offscreen_views import VIEWS, draw_off_screen
from XTLLib.scene.open_scene import open_scene
from XTLLib.scene.viewed_scene import ViewedScene
from XTLLib.scene.web_page import Page

slicer = pytest.importorskip("slicer")
pytestmark = NEEDS_TRAME


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return good_scene(tmp_path_factory.mktemp("good") / "scene.mrb")


def view(capsys, *arguments) -> tuple[int, str]:
    """Exit code and standard error of an ``xtl view`` that does not start."""
    code = main(["view", "--no-browser", *map(str, arguments)])
    return code, capsys.readouterr().err


# --- what does not start -----------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["trame", "trame.app", "trame.widgets.client", "aiohttp"])
def test_without_trame_the_command_says_how_to_install_it(capsys, monkeypatch, scene, package):
    monkeypatch.setitem(sys.modules, package, None)
    code, error = view(capsys, scene)
    assert code == 2 and len(error.splitlines()) == 1
    assert error.startswith("xtl: error: the web page needs the package trame")
    assert 'Install it with: pip install ".[scene,web]"' in error


def test_without_slicer_core_the_command_says_how_to_install_it(capsys, monkeypatch, scene):
    monkeypatch.setitem(sys.modules, "slicer", None)
    code, error = view(capsys, scene)
    assert code == 2 and len(error.splitlines()) == 1
    assert error.startswith("xtl: error: the MRML scene needs the package slicer-core")
    assert 'Install it with: pip install ".[scene]"' in error


def test_bad_input_is_one_line_and_no_traceback(tmp_path, capsys, scene):
    (tmp_path / "text.mrb").write_text("no archive")
    (tmp_path / "scene.zip").write_text("no archive")
    cases = {
        "nowhere.mrb does not exist": [tmp_path / "nowhere.mrb"],
        "text.mrb is no whole scene file": [tmp_path / "text.mrb"],
        "scene.zip is not a scene file": [tmp_path / "scene.zip"],
        "--host 0.0.0.0 shows the scene to everybody": [scene, "--host", "0.0.0.0"],
        "the token is shorter than 16": [scene, "--host", "0.0.0.0", "--token", "short"],
        "nothing": [scene, "--bundle", tmp_path / "nothing"],
    }
    for words, arguments in cases.items():
        code, error = view(capsys, *arguments)
        assert code == 2, error
        assert words in error and error.startswith("xtl: error: ") and len(error.splitlines()) == 1


def test_a_port_that_is_taken_is_said(capsys, scene):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, error = view(capsys, scene, "--port", port)
    assert code == 2 and f"the port {port} of 127.0.0.1 is taken" in error


def test_a_request_to_end_while_the_scene_is_read_leaves_nothing_behind(tmp_path, monkeypatch, capsys, scene):
    """Before there is a loop that would take it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(web_server, "ViewedScene", lambda *_: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert view(capsys, scene)[0] == 130
    assert not list(tmp_path.iterdir()) and signal.getsignal(signal.SIGTERM) is before


# --- calls of browsers ------------------------------------------------------------------------------------------


class Talk:
    """A page without a server: calls as a browser makes them, and what it would see."""

    def __init__(self, path, folder) -> None:
        from trame.app import get_server

        draw_off_screen()
        self._opening = open_scene(path)
        self.viewed = ViewedScene(self._opening.__enter__(), folder)
        server = get_server(f"test-{id(self)}", client_type="vue3")
        self.page, self.state = Page(server, self.viewed, "test"), server.state
        self._call = server.controller.trigger_fn
        self._loop = asyncio.new_event_loop()
        self._showing = self._loop.create_task(self.page.keep_showing())

    def say(self, name: str, *arguments) -> None:
        with self.state:
            self._call(name)(*arguments)

    def show(self, seconds: float) -> None:
        """Draw for that long. Raises what the page raises."""
        done, _ = self._loop.run_until_complete(asyncio.wait([self._showing], timeout=seconds))
        for task in done:
            task.result()

    def rest(self) -> None:
        """Draw until nothing is left to be drawn."""
        wait_until(lambda: self.show(0.005) or not self.state.is_drawing)

    def close(self) -> None:
        self._showing.cancel()
        with suppress(asyncio.CancelledError, RuntimeError):
            self._loop.run_until_complete(self._showing)
        self.viewed.close()
        self._opening.__exit__(None, None, None)
        self._loop.close()


@pytest.fixture
def talk(tmp_path, scene, request):
    opened = Talk(getattr(request, "param", None) or scene, tmp_path)
    for name in (*VIEWS, "Surfaces"):
        opened.say("resize", name, 64, 48, 1)
    opened.rest()
    yield opened
    opened.close()


def test_pictures_come_for_every_view_and_no_more_than_change(talk):
    assert all(talk.state[f"image_{name}"].startswith("data:image/jpeg;base64,") for name in (*VIEWS, "Surfaces"))
    talk.say("resize", "Red", 64, 48, 1)
    assert not talk.state.is_drawing  # the size that it has
    before = talk.state.image_Red, talk.state.image_Yellow
    talk.say("step", "Red", 1)
    assert talk.state.is_drawing
    talk.rest()
    assert talk.state.image_Red != before[0] and talk.state.image_Yellow == before[1]


def test_letters_say_which_side_of_the_patient_is_seen(talk):
    """As radiologists look: from the feet, from the left, from the front."""
    assert talk.state.edges == {
        "Red": ("R", "L", "A", "P"), "Yellow": ("A", "P", "S", "I"), "Green": ("R", "L", "S", "I"),
    }  # fmt: skip
    assert talk.state.contrast.startswith("W ")


def test_a_slider_that_was_moved_is_about_the_result_that_was_shown_then(talk):
    talk.say("settings", 0.95, 0.0)
    talk.say("choose_result", 1)
    talk.rest()
    assert talk.state.headers[1:4] == ["Finding", "Zone", "Probability"] and len(talk.state.rows) == 2
    talk.say("choose_result", 0)
    assert talk.state.threshold == 0.95 and talk.state.rows == []


def test_another_result_is_shown_while_surfaces_are_due(talk):
    talk.say("settings", 0.6, 0.0)
    talk.show(0.1)
    assert talk.state.is_drawing  # the lesions are new, their surfaces due
    talk.say("choose_result", 1)
    talk.rest()
    assert talk.state.chosen == 1 and not talk.state.is_drawing


def test_two_clicks_on_run_start_one_run_and_sliders_wait(talk, monkeypatch):
    started = []
    monkeypatch.setattr(talk.viewed.model, "run", lambda: started.append(1))
    talk.say("settings", 0.9, 0.0)
    talk.say("run")
    talk.say("run")
    talk.say("settings", 0.2, 0.0)
    talk.say("choose_result", 1)
    talk.page._apply_settings()
    assert started == [1] and talk.state.is_running
    assert talk.viewed.settings[0] == 0.5 and talk.state.chosen == 0


NONSENSE = [
    ("step", "Blue", 1), ("step", "Red", math.nan), ("step", "Red", 1e300), ("step", "Red", -1e300),
    ("step", "Red"), ("step", "Red", "far"), ("slide", "Red", math.inf), ("zoom", "Red", 1e9),
    ("zoom", "Red", "in"),
    ("turn", 1e9, 1e9), ("drag", "Red", 1e300, 0), ("release", "Red", None, None), ("choose_result", -1),
    ("choose_result", 0.5), ("choose_result", 7), ("choose_result", "1"), ("choose_row", 99), ("choose_row", "x"),
    ("settings", -1, 5), ("settings", "x", "y"), ("settings", 0.5, 1e9), ("resize", "Red", -5, 1e9, 0),
    ("resize", "Red", "a", "b", "c"), ("wheel", [], {}, None), ("press", {"a": 1}, 0, 0),
]  # fmt: skip


def test_calls_that_make_no_sense_change_nothing_that_is_shown(talk):
    for call in NONSENSE:
        talk.say(*call)
        talk.rest()
        assert talk.state.chosen == 0 and len(talk.state.rows) == 1 and talk.state.threshold == 0.5, call
    before = talk.state.image_Red
    talk.say("choose_row", 1)
    talk.rest()
    assert talk.state.image_Red != before


def test_zooming_on_and_on_ends_somewhere(talk):
    for direction in (1, -1):
        for name in ("Red", "Surfaces"):
            for _ in range(300):
                talk.say("zoom", name, direction)
        talk.rest()
        width, height, _ = talk.viewed.slices["Red"].node.GetFieldOfView()
        assert 1 < width < 10_000 and 1 < height < 10_000


@pytest.mark.parametrize("where", ["picture", "call"])
def test_what_nobody_expected_ends_the_page_with_its_error(talk, monkeypatch, where):
    def broken(*_):
        raise RuntimeError("out of order")

    if where == "picture":
        monkeypatch.setattr(talk.viewed.slices["Red"], "picture", broken)
        talk.say("step", "Red", 1)
    else:
        monkeypatch.setattr(talk.viewed, "go_to", broken)
        talk.say("press", "Red", 0.5, 0.5)
        talk.say("release", "Red", 0.5, 0.5)
    with pytest.raises(RuntimeError, match="out of order"):
        talk.show(30)


def test_a_result_that_cannot_be_read_is_said_and_the_one_before_stays(tmp_path, scene):
    path = repacked(scene, tmp_path / "a.mrb", attribute("T2W lesion table", "XTL.Rated", "hugo"))
    talk = Talk(path, tmp_path)
    talk.say("choose_result", 1)
    assert talk.state.is_failed and "cannot be read" in talk.state.status
    assert (talk.state.chosen, talk.viewed.chosen, len(talk.state.rows)) == (0, 0, 1)
    talk.rest()
    talk.close()


def test_a_browser_that_is_closed_while_a_picture_is_sent_is_no_error(caplog):
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(web_server._report)
    loop.call_exception_handler({"message": "one", "exception": ConnectionResetError("closing transport")})
    assert not caplog.records
    loop.call_exception_handler({"message": "two", "exception": RuntimeError("out of order")})
    assert "two" in caplog.text
    loop.close()
