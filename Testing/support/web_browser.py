"""A browser that looks at the page of ``xtl view``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

PATIENCE_MS = 30_000
# A call that changes nothing is answered, after those before it, by whether something is left to be drawn. What was
# drawn last is sent before a second call is answered.
_AT_REST = """async () => {
  const frame = () => new Promise(requestAnimationFrame), ask = () => trame.trigger('drag', ['none', 0, 0]);
  while (await ask()) await frame();
  await ask(); await frame(); await frame();
  await Promise.all([...document.images].map(one => one.decode()));
}"""


@contextmanager
def page_in(browser: Any, address: str, size: tuple[int, int] = (1280, 860), **more: Any) -> Iterator[Any]:
    """A page in a browser's window, at rest; ``asked`` names what it has asked for."""
    opened = browser.new_page(viewport={"width": size[0], "height": size[1]}, **more)
    opened.set_default_timeout(PATIENCE_MS)
    opened.asked = []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("websocket", lambda socket: opened.asked.append(socket.url))
    opened.goto(address)
    opened.wait_for_selector("[data-view=Surfaces] img")
    at_rest(opened)
    yield opened
    opened.close()


def at_rest(page: Any) -> None:
    """Wait until what was done is seen."""
    page.evaluate(_AT_REST)


def picture(page: Any, name: str) -> np.ndarray:
    """(height, width, 3) what a view's image element shows."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(page.locator(f"[data-view={name}] img").screenshot())).convert("RGB"), int)


def is_said(page: Any, selector: str, words: str) -> None:
    """Wait until an element says these words."""
    page.wait_for_function(
        "([selector, words]) => document.querySelector(selector)?.innerText.includes(words)", arg=[selector, words]
    )
