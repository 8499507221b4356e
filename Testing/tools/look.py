"""Pictures of every panel and message in every state that a user meets, for somebody who looks at them.

    QT_QPA_PLATFORM=offscreen .venv/bin/python Testing/tools/look.py OUT
    QT_QPA_PLATFORM=offscreen .venv/bin/python Testing/tools/look.py OUT --only segment --scale 1

Networks are untrained and images are phantoms: results mean nothing, the widgets are real. Each scale has a process of
its own. The pictures lie in OUT/<scale>-<style>/; sheets of them in OUT/sheets/, and in OUT/texts.txt what status
lines and messages said. What can be measured (texts cut off, widgets that overlap) is printed for each state.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING / "support")]

SCALES = ("1", "2")
STYLES = ("light", "dark")
WIDTHS = (400, 700)  # pixels: a narrow panel, and one that was drawn wide
TOPICS = ("transfer", "study", "library", "segment", "corrections", "over_time", "classify", "messages")
_COLUMN, _SHEET, _GAP = 1300, 1800, 12  # pixels of a sheet of pictures
_DARK = {"Window": "#323232", "WindowText": "#ffffff", "Base": "#191919", "AlternateBase": "#2a2a2a"}
_DARK |= {"Text": "#ffffff", "Button": "#353535", "ButtonText": "#ffffff", "Highlight": "#2a82da"}
_DARK |= {"HighlightedText": "#ffffff", "ToolTipBase": "#323232", "ToolTipText": "#ffffff", "Link": "#5aa9ff"}
_DARK |= {"PlaceholderText": "#9a9a9a", "Light": "#505050", "Midlight": "#404040", "Mid": "#282828", "Dark": "#202020"}
_GREYED = ("WindowText", "Text", "ButtonText")


class Album:
    """Keeps pictures of widgets in both styles.

    Parameters
    ----------
    folder : gets a folder for each style. scale : device pixels a pixel, as Qt was told.
    """

    def __init__(self, folder: Path, scale: str) -> None:
        self._folder, self._scale = folder, scale
        self._texts = (folder / "texts.txt").open("a", encoding="utf-8")

    def keep_panel(self, panel: Any, state: str) -> None:
        """A panel as it is now: both styles, narrow and wide."""
        from panel_looks import problems_of, root_of

        name = f"{panel.widget.moduleName}-{state}"
        for width in WIDTHS:
            panel.lay_out(width)
            for problem in problems_of(root_of(panel)):
                print(f"{self._scale}x {name} {width}: {problem}", flush=True)
            self._keep(root_of(panel), f"{name}-{width}")
        self.note(name, panel.widget.ui.statusLabel.text)

    def keep_window(self, window: Any, name: str) -> None:
        """A message as it is now, in both styles."""
        self._keep(window, name)

    def note(self, name: str, text: str) -> None:
        """Write down what was said."""
        self._texts.write(f"[{name}] {text}\n")
        self._texts.flush()

    def _keep(self, widget: Any, name: str) -> None:
        from PySide6 import QtWidgets

        for style in STYLES:
            use_style(style)
            QtWidgets.QApplication.processEvents()
            path = self._folder / f"{self._scale}-{style}" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert widget.grab().save(str(path)), f"{path} cannot be written"
        use_style("light")


def use_style(style: str) -> None:
    """Give every widget the colours of Slicer's light or dark style, nearly."""
    from PySide6 import QtGui, QtWidgets

    palette = QtWidgets.QApplication.style().standardPalette()
    if style == "dark":
        for role, colour in _DARK.items():
            palette.setColor(getattr(QtGui.QPalette, role), QtGui.QColor(colour))
        for role in _GREYED:
            palette.setColor(QtGui.QPalette.Disabled, getattr(QtGui.QPalette, role), QtGui.QColor("#808080"))
    QtWidgets.QApplication.setPalette(palette)


def make_sheets(folder: Path) -> None:
    """Put the pictures of each folder side by side, long ones cut into columns; each column is headed by its name."""
    from PIL import Image, ImageDraw

    for pictures in sorted(each for each in folder.iterdir() if each.name.partition("-")[0] in SCALES):
        factor = int(pictures.name.partition("-")[0])
        columns = []
        for path in sorted(pictures.glob("*.png")):
            image = Image.open(path).convert("RGB")
            for top in range(0, image.height, factor * _COLUMN):
                piece = image.crop((0, top, image.width, min(image.height, top + factor * _COLUMN)))
                column = Image.new("RGB", (piece.width, piece.height + 16 * factor), "white")
                ImageDraw.Draw(column).text((2, 2), path.stem, fill="black", font_size=11 * factor)
                column.paste(piece, (0, 16 * factor))
                columns.append(column)
        for number, row in enumerate(_rows(columns, factor * _SHEET)):
            width = sum(each.width + _GAP for each in row)
            sheet = Image.new("RGB", (width, max(each.height for each in row)), (120, 120, 120))
            left = 0
            for each in row:
                sheet.paste(each, (left, 0))
                left += each.width + _GAP
            (folder / "sheets").mkdir(exist_ok=True)
            sheet.save(folder / "sheets" / f"{pictures.name}-{number:02d}.png")


def _rows(columns: Iterable[Any], width: int) -> list[list[Any]]:
    rows: list[list[Any]] = [[]]
    for column in columns:
        if rows[-1] and sum(each.width + _GAP for each in rows[-1]) + column.width > width:
            rows.append([])
        rows[-1].append(column)
    return rows if rows[-1] else rows[:-1]


def _look(folder: Path, scale: str, topics: Iterable[str]) -> None:
    """Walk through the states, in this process."""
    import host.boot as boot
    import look_states

    boot.start()
    use_style("light")
    album = Album(folder, scale)
    for topic in topics:
        print(f"--- {topic} at {scale}x", flush=True)
        with tempfile.TemporaryDirectory(prefix="xtl-look-") as place:
            os.environ["XTL_HOME"] = str(Path(place) / "home")
            getattr(look_states, topic)(album, Path(place))


def main() -> None:
    """Take the pictures, a process for each scale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", help="folder for the pictures; default: a new temporary one")
    parser.add_argument("--only", nargs="+", choices=TOPICS, default=TOPICS, metavar="TOPIC", help=" ".join(TOPICS))
    parser.add_argument("--scale", nargs="+", choices=SCALES, default=SCALES)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        _look(arguments.out, arguments.scale[0], arguments.only)
        return
    out = arguments.out or Path(tempfile.mkdtemp(prefix="xtl-look-"))
    out.mkdir(parents=True, exist_ok=True)
    for scale in arguments.scale:
        environment = os.environ | {"QT_SCALE_FACTOR": scale, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        environment.setdefault("QT_QPA_PLATFORM", "offscreen")
        command = [sys.executable, __file__, str(out), "--here", "--scale", scale, "--only", *arguments.only]
        subprocess.run(command, env=environment, check=True)
    make_sheets(out)
    print(f"pictures: {out}")


if __name__ == "__main__":
    main()
