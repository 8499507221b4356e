"""Draw the icons of the extension and of its modules: ``python Testing/tools/draw_icons.py``.

Every icon is drawn from circles, ellipses and polygons at eight times its size and scaled down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

PROJECT = Path(__file__).resolve().parents[2]
SIZE, SCALE = 128, 8
DARK, TEAL, ROSE, AMBER, PALE, WHITE = "#12344d", "#1f7a8c", "#d1495b", "#edae49", "#cfe3e8", "#ffffff"


class Canvas:
    """A picture of 128 x 128 units on a rounded tile."""

    def __init__(self, tile: str = DARK) -> None:
        self._image = Image.new("RGBA", (SIZE * SCALE, SIZE * SCALE), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._image)
        self._draw.rounded_rectangle(self._box((4, 4, 124, 124)), radius=24 * SCALE, fill=tile)

    @staticmethod
    def _box(values) -> list[float]:
        return [SCALE * value for value in values]

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill=None, outline=None, width: float = 0) -> None:
        box = self._box((x - rx, y - ry, x + rx, y + ry))
        self._draw.ellipse(box, fill=fill, outline=outline, width=round(width * SCALE))

    def arc(self, x: float, y: float, r: float, start: float, end: float, fill: str, width: float) -> None:
        self._draw.arc(self._box((x - r, y - r, x + r, y + r)), start, end, fill=fill, width=round(width * SCALE))

    def polygon(self, points, fill: str) -> None:
        self._draw.polygon([tuple(self._box(point)) for point in points], fill=fill)

    def pie(self, x: float, y: float, rx: float, ry: float, start: float, end: float, fill: str) -> None:
        self._draw.pieslice(self._box((x - rx, y - ry, x + rx, y + ry)), start, end, fill=fill)

    def line(self, points, fill: str, width: float) -> None:
        self._draw.line([tuple(self._box(p)) for p in points], fill=fill, width=round(width * SCALE), joint="curve")

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._image.resize((SIZE, SIZE), Image.LANCZOS).save(path, optimize=True)


def breast(canvas: Canvas, x: float, y: float, size: float) -> None:
    """A mammogram: a half disc with its chest wall at the left, and a mass."""
    canvas.pie(x, y, size, size * 1.15, -90, 90, PALE)
    canvas.ellipse(x + 0.42 * size, y + 0.1 * size, 0.2 * size, 0.2 * size, fill=ROSE)


def brain(canvas: Canvas, x: float, y: float, size: float) -> None:
    """An axial slice of a head: skull, brain, ventricles."""
    canvas.ellipse(x, y, 0.84 * size, size, outline=PALE, width=0.09 * size)
    canvas.ellipse(x, y, 0.7 * size, 0.85 * size, fill=PALE)
    for side in (-1, 1):
        canvas.pie(x + side * 0.06 * size, y, 0.2 * size, 0.42 * size, *((90, 270) if side < 0 else (-90, 90)), TEAL)
    canvas.line([(x, y - 0.83 * size), (x, y - 0.45 * size)], TEAL, 0.04 * size)
    canvas.line([(x, y + 0.45 * size), (x, y + 0.83 * size)], TEAL, 0.04 * size)


def head(canvas: Canvas, x: float, y: float, size: float) -> None:
    """The same, as little as can be told apart at 16 pixels: a head with its midline and a lesion."""
    canvas.ellipse(x, y, 0.84 * size, size, fill=PALE)
    canvas.line([(x, y - 0.8 * size), (x, y + 0.8 * size)], TEAL, 0.12 * size)
    canvas.ellipse(x + 0.4 * size, y - 0.3 * size, 0.26 * size, 0.26 * size, fill=ROSE)


def arrow(canvas: Canvas, x: float, y: float, length: float, fill: str) -> None:
    """An arrow to the right that starts at (x, y)."""
    canvas.line([(x, y), (x + 0.7 * length, y)], fill, 0.28 * length)
    tip = [(x + 0.55 * length, y - 0.42 * length), (x + length, y), (x + 0.55 * length, y + 0.42 * length)]
    canvas.polygon(tip, fill)


def extension() -> Canvas:
    canvas = Canvas()
    breast(canvas, 12, 64, 36)
    arrow(canvas, 51, 64, 22, AMBER)
    head(canvas, 97, 64, 26)
    return canvas


def transfer() -> Canvas:
    """Three stages of a chain, from pale to bright."""
    canvas = Canvas(TEAL)
    places = [(30, 90), (64, 64), (98, 38)]
    canvas.line(places, WHITE, 7)
    for (x, y), fill in zip(places, (PALE, AMBER, ROSE)):
        canvas.ellipse(x, y, 17, 17, fill=fill, outline=WHITE, width=5)
    return canvas


def segment() -> Canvas:
    canvas = Canvas()
    brain(canvas, 64, 64, 50)
    for x, y, rx, ry in ((43, 42, 10, 8), (85, 48, 8, 11), (42, 80, 7, 10), (84, 86, 10, 8)):
        canvas.ellipse(x, y, rx, ry, fill=ROSE, outline=AMBER, width=2.5)
    return canvas


def classify() -> Canvas:
    """A gland with a marked finding under a gauge from low to high."""
    canvas = Canvas()
    bands = [("#4f9d69", 180, 238), (AMBER, 241, 299), (ROSE, 302, 360)]
    for fill, start, end in bands:
        canvas.arc(64, 62, 46, start, end, fill, 11)
    angle = math.radians(-38)
    canvas.line([(64, 62), (64 + 33 * math.cos(angle), 62 + 33 * math.sin(angle))], WHITE, 5)
    canvas.ellipse(64, 62, 6, 6, fill=WHITE)
    canvas.ellipse(64, 94, 34, 20, fill=PALE)
    canvas.ellipse(64, 86, 15, 9, fill=TEAL)
    canvas.ellipse(84, 99, 6.5, 6.5, fill=ROSE, outline=WHITE, width=2)
    return canvas


ICONS: dict[str, Callable[[], Canvas]] = {
    "Resources/XTL.png": extension,
    "XTLTransfer/Resources/Icons/XTLTransfer.png": transfer,
    "XTLSegment/Resources/Icons/XTLSegment.png": segment,
    "XTLClassify/Resources/Icons/XTLClassify.png": classify,
}


if __name__ == "__main__":
    for name, draw in ICONS.items():
        draw().save(PROJECT / name)
