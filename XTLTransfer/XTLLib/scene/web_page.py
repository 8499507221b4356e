"""The web page of a scene: what a browser says goes to viewed_scene, and what is to be seen comes back as pictures.

trame (its server, state and Vue client) with slicer-core's own views, and no more. trame-slicer is not used: version
2.0 is made for slicer-core 5.11 and a further compiled package of that version, XTL is for Slicer 5.12 and later, and
the few things that the page needs of it are in offscreen_views. Widgets are the browser's own, so that neither
trame-vuetify nor fonts are needed; pictures are drawn here, so that every browser shows what Slicer would.

There is one scene and one set of views, whoever looks: two browsers see the same.
"""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections.abc import Callable
from typing import Any

from ..errors import Cancelled, XTLError
from ..inference.results import RESEARCH_NOTE
from .bundle_settings import LARGEST_MINIMUM_MM3, LOWEST_THRESHOLD
from .offscreen_views import VIEWS
from .viewed_scene import ViewedScene
from .web_template import DISCONNECTED, STYLE, TEMPLATE
from .words import in_sentences

SURFACES = "Surfaces"
_CLICK = 0.01  # share of a view within which a press and a release are a click
_LARGEST_PIXELS = 1600  # of a picture's side
_MOST_PIXEL_RATIO = 2.0
_QUIET_S = 0.3  # of the sliders, before the surfaces are made anew
_POLL_S = 0.1
_GATHER_S = 0.004  # what comes in meanwhile is drawn together
_TURN_DEGREES = 180.0  # by a drag across the view
_ZOOM = 1.15
_SLIDER_MINIMUM_MM3 = 200.0
_LARGEST_NUMBER = 1e6  # of what a page of ours says


class Page:
    """Ties a trame server to a scene.

    Parameters
    ----------
    server : of trame.app.get_server, not started.
    viewed : the scene.
    title : of the page, for example the file's name.
    """

    def __init__(self, server: Any, viewed: ViewedScene, title: str) -> None:
        self._server, self._state, self._viewed = server, server.state, viewed
        self._dirty: set[str] = set()  # names of views, "settings", "table"
        self._wake = asyncio.Event()
        self._wanted: tuple[float, float] | None = None
        self._surfaces_at: float | None = None  # when they are to be made
        self._pressed: dict[str, tuple[float, float, float, float]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}  # of the pictures, in pixels; none before a browser has said it
        self._is_running = False
        self._unexpected: Exception | None = None  # of a browser's call; keep_showing raises it
        self._fill_state(title)
        self._build()
        for call in (
            self.resize, self.press, self.drag, self.release, self.wheel, self.step, self.slide, self.zoom, self.turn,
            self.change_contrast, self.settings, self.choose_result, self.choose_row, self.reset, self.run, self.cancel,
        ):  # fmt: skip
            server.trigger(call.__name__)(self._guarded(call))

    async def keep_showing(self) -> None:
        """Draw what changes and follow the model, until cancelled; runs on the server's event loop.

        Raises what nobody expected, of drawing or of a browser's call: a page that went on would show something else
        than what it says.
        """
        await asyncio.gather(self._keep_drawing(), self._follow_worker())

    # --- what a browser says ------------------------------------------------------------------------

    def resize(self, name: str, width: float, height: float, pixel_ratio: float) -> None:
        """A view takes so many CSS pixels, of so many pixels each."""
        if name in (*VIEWS, SURFACES):
            ratio = min(pixel_ratio or 1, _MOST_PIXEL_RATIO)
            width, height = (min(max(round(side * ratio), 16), _LARGEST_PIXELS) for side in (width, height))
            if self._sizes.get(name) != (width, height):
                self._sizes[name] = (width, height)
                self._draw(name)

    def press(self, name: str, x: float, y: float) -> None:
        """A button went down at these shares of a view's width and height."""
        self._pressed[name] = (x, y, x, y)

    def drag(self, name: str, x: float, y: float) -> None:
        """The pointer moves with its button down."""
        if name not in self._pressed:
            return
        x0, y0, x1, y1 = self._pressed[name]
        if max(abs(x - x0), abs(y - y0)) < _CLICK and (x0, y0) == (x1, y1):
            return
        self._pressed[name] = (x0, y0, x, y)
        if name == SURFACES:
            self.turn((x - x1) * _TURN_DEGREES, (y - y1) * _TURN_DEGREES)
        else:
            self.change_contrast(x - x1, y1 - y)

    def change_contrast(self, right: float, up: float) -> None:
        """Wider to the right, brighter upwards: shares of a view."""
        self._viewed.change_contrast(right, up)
        self._draw(*VIEWS)

    def release(self, name: str, x: float, y: float) -> None:
        """The button came up: a click where the pointer has not moved."""
        x0, y0, x1, y1 = self._pressed.pop(name, (x, y, None, None))
        if name in VIEWS and (x0, y0) == (x1, y1):
            self._viewed.go_to(self._viewed.slices[name].ras_at(x, y))
            self._draw(*VIEWS)

    def wheel(self, name: str, delta: float, with_shift: bool) -> None:
        """The wheel went down (positive) or up; shift zooms, and in 3D the wheel alone does."""
        direction = -1 if delta > 0 else 1
        if name == SURFACES or with_shift:
            self.zoom(name, direction)
        else:
            self.step(name, direction)

    def step(self, name: str, count: int) -> None:
        """Go on by slices."""
        self._viewed.slices[name].step(count)
        self._draw(name)

    def slide(self, name: str, offset_mm: float) -> None:
        """Go to a slice."""
        self._viewed.slices[name].move_to(offset_mm)
        self._draw(name)

    def zoom(self, name: str, direction: int) -> None:
        """Closer (1) or further away (-1)."""
        view = self._viewed.surfaces if name == SURFACES else self._viewed.slices[name]
        view.zoom(1 / _ZOOM if direction > 0 else _ZOOM)
        self._draw(name)

    def turn(self, right: float, up: float) -> None:
        """Turn the surfaces by degrees."""
        self._viewed.surfaces.turn(right, up)
        self._draw(SURFACES)

    def settings(self, threshold: float, minimum_volume_mm3: float) -> None:
        """A slider was moved; only the last place of several counts."""
        if not self._is_running and math.isfinite(threshold) and math.isfinite(minimum_volume_mm3):
            self._wanted = (threshold, minimum_volume_mm3)
            self._draw()

    def choose_result(self, index: int) -> None:
        """Another result was chosen."""
        if index not in range(len(self._viewed.results)) or self._is_running:
            return
        try:
            self._apply_settings()  # of the result before
            self._viewed.choose_result(int(index))
            self._surfaces_at = None  # they are made
        finally:  # where it cannot be shown, the page says which one is
            self._show_result()

    def choose_row(self, identifier: int) -> None:
        """A row of the table was chosen."""
        self._viewed.choose_row(identifier)
        self._state.chosen_row = self._viewed.row
        self._draw(*VIEWS)

    def reset(self) -> None:
        """Views as at the beginning."""
        self._viewed.reset_views()
        self._draw(*VIEWS, SURFACES)

    def run(self) -> None:
        """Run the model."""
        if self._is_running:
            return
        self._state.is_failed, self._state.status, self._state.fraction = False, "Starting ...", 0.0
        self._viewed.model.run()
        self._is_running = self._state.is_running = True

    def cancel(self) -> None:
        """Stop it."""
        if self._is_running:
            self._viewed.model.cancel()
            self._state.status = "Cancelling ..."

    # --- what it sees -----------------------------------------------------------------------------------

    def _fill_state(self, title: str) -> None:
        state = self._state
        state.trame__title = f"XTL: {title}"
        state.update({"title": title, "note": f"{RESEARCH_NOTE}.", "style": "system", "status": "", "is_failed": False})
        state.update({"limits": [LOWEST_THRESHOLD, _SLIDER_MINIMUM_MM3], "fraction": 0.0, "is_running": False})
        state.is_drawing = True
        state.trame__template_error = DISCONNECTED  # what trame's client shows when the connection is lost
        state.update({f"image_{name}": "" for name in (*VIEWS, SURFACES)})
        # A browser says sizes by a trigger: trame's client may leave a changed state unsent while it awaits an answer.
        state.client_only(*(f"size_{name}" for name in (*VIEWS, SURFACES)))
        state.labels = {SURFACES: "Surfaces in 3D"}
        self._show_result()

    def _show_result(self) -> None:
        viewed, state = self._viewed, self._state
        state.results, state.chosen = [one.name for one in viewed.results], viewed.chosen
        state.is_segmentation = viewed.is_segmentation
        state.threshold, state.minimum_volume = viewed.settings if viewed.is_segmentation else (0.5, 0.0)
        state.limits = [LOWEST_THRESHOLD, min(LARGEST_MINIMUM_MM3, max(_SLIDER_MINIMUM_MM3, state.minimum_volume))]
        state.bundle_name, state.missing = viewed.model.name, in_sentences(viewed.model.missing())
        self._show_table()
        self._show_places()
        self._draw(*VIEWS, SURFACES)

    def _show_table(self) -> None:
        table = self._viewed.table()
        self._state.headers = list(table.headers)
        self._state.rows = [[identifier, list(cells)] for identifier, cells in table.rows]
        self._state.chosen_row = self._viewed.row
        self._state.summary = self._viewed.summary

    def _show_places(self) -> None:
        views = self._viewed.slices
        self._state.ranges = {name: [round(value, 4) for value in view.range_mm] for name, view in views.items()}
        self._state.offsets = {name: round(view.offset_mm, 4) for name, view in views.items()}
        places = {name: view.place_of(self._viewed.position_ras) for name, view in views.items()}
        self._state.crosses = {name: [round(100 * share, 2) for share in place] for name, place in places.items()}
        labels = {name: f"{view.orientation}  {view.offset_mm:.1f} mm" for name, view in views.items()}
        self._state.labels = {**labels, SURFACES: "Surfaces in 3D"}
        self._state.edges = {name: view.edges for name, view in views.items()}
        self._state.contrast = self._viewed.contrast

    def _draw(self, *names: str) -> None:
        self._dirty.update(names)
        self._state.is_drawing = True
        self._wake.set()

    async def _keep_drawing(self) -> None:
        while True:
            wait = None if self._surfaces_at is None else max(0.0, self._surfaces_at - time.monotonic())
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
                await asyncio.sleep(_GATHER_S)
            except asyncio.TimeoutError:
                pass
            self._wake.clear()
            if self._unexpected is not None:
                raise self._unexpected
            with self._state:
                self._say_errors(self._apply_settings)
            if self._surfaces_at is not None and time.monotonic() >= self._surfaces_at:
                self._surfaces_at = None
                self._viewed.make_surfaces()
                self._dirty.add(SURFACES)
            for name in (*VIEWS, SURFACES):  # a picture at a time: the first is seen while the next is drawn
                if name in self._dirty:
                    self._dirty.discard(name)
                    with self._state:
                        self._show_picture(name)
                    await asyncio.sleep(0)
            if not (self._dirty or self._wanted or self._surfaces_at):
                with self._state:
                    self._state.is_drawing = False

    def _apply_settings(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None or self._is_running or not self._viewed.is_segmentation:
            return
        if self._viewed.set_settings(*wanted):
            self._show_table()
            self._dirty.update(VIEWS)
            self._surfaces_at = time.monotonic() + _QUIET_S

    def _show_picture(self, name: str) -> None:
        if name not in self._sizes:
            return
        view = self._viewed.surfaces if name == SURFACES else self._viewed.slices[name]
        picture = base64.b64encode(view.picture(*self._sizes[name])).decode("ascii")
        self._state[f"image_{name}"] = f"data:image/jpeg;base64,{picture}"
        if name in VIEWS:
            self._show_places()

    async def _follow_worker(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            if not self._is_running:
                continue
            with self._state:
                self._say_errors(self._poll)

    def _poll(self) -> None:
        for event in self._viewed.model.poll():
            left = "" if event.eta_s is None else f", about {max(1, round(event.eta_s))} s left"
            self._state.fraction, self._state.status = round(event.fraction, 3), f"{event.stage}{left}"
        if not self._viewed.model.is_running:
            self._is_running = self._state.is_running = False
            notes = self._viewed.finish()
            self._state.status = " ".join(("Done.", *notes))
            self._show_result()

    def _guarded(self, call: Callable[..., None]) -> Callable[..., bool]:
        """A browser's call: errors are said on the page, and what no page of ours would say is let go.

        It is answered by whether something is left to be drawn, which the page itself may hear of later.
        """

        def guarded(*arguments: Any) -> bool:
            numbers = [one for one in arguments if isinstance(one, (int, float))]
            is_ours = all(isinstance(one, (int, float, str)) for one in arguments)
            if is_ours and all(abs(one) <= _LARGEST_NUMBER for one in numbers):  # NaN is not
                try:
                    self._say_errors(lambda: call(*arguments))
                except (KeyError, TypeError):
                    pass
                except Exception as error:  # trame would tell nobody but the browser's console
                    self._unexpected = error
                    self._wake.set()
            return self._state.is_drawing

        return guarded

    def _say_errors(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Cancelled:
            self._state.status = "Cancelled; the scene is as it was."
        except XTLError as error:
            self._state.is_failed, self._state.status = True, in_sentences(str(error))

    def _build(self) -> None:
        from trame.ui.html import DivLayout
        from trame.widgets import client, html

        with DivLayout(self._server):
            client.Style(STYLE)
            html.Div(TEMPLATE, style="display: contents")
