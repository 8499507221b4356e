"""Give each label of a form its field as a buddy, which screen readers read with the field; Designer does not do it.

python Testing/tools/link_labels.py            says which labels lack one, exit code 1 when some do
python Testing/tools/link_labels.py --write    puts them in
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PANELS = tuple(
    PROJECT / name / "Resources" / "UI" / f"{name}.ui" for name in ("XTLTransfer", "XTLSegment", "XTLClassify")
)
SHOWN_ONLY = {"QLabel", "QPushButton", "QToolButton", "QCheckBox", "QProgressBar", "QWidget"}


def missing_buddies(panel: Path) -> dict[str, str]:
    """Label -> field, for the rows of forms whose label has no buddy; both by their names."""
    pairs = {}
    for layout in ElementTree.parse(panel).getroot().iter("layout"):
        if layout.get("class") != "QFormLayout":
            continue
        cells = {(item.get("row"), item.get("column")): item for item in layout.findall("item")}
        for (row, column), item in cells.items():
            label, other = item.find("widget"), cells.get((row, "1"))
            if column != "0" or label is None or label.get("class") != "QLabel" or other is None:
                continue
            fields = [widget for widget in other.iter("widget") if widget.get("class") not in SHOWN_ONLY]
            if fields and label.find("property[@name='buddy']") is None:
                pairs[label.get("name")] = fields[0].get("name")
    return pairs


def write(panel: Path) -> None:
    """Put the buddies into the file, and leave the rest of it as it is."""
    text = panel.read_text(encoding="utf-8")
    for label, field in missing_buddies(panel).items():
        line = re.compile(rf'^( *)<widget class="QLabel" name="{label}">\n', re.MULTILINE)
        lines = '\\g<0>\\1 <property name="buddy">\n\\1  <cstring>{}</cstring>\n\\1 </property>\n'
        text, count = line.subn(lines.format(field), text)
        assert count == 1, f"{panel.name}: {label}"
    panel.write_text(text, encoding="utf-8")


def main() -> int:
    missing = 0
    for panel in PANELS:
        if "--write" in sys.argv[1:]:
            write(panel)
        for label, field in missing_buddies(panel).items():
            missing += 1
            print(f"{panel.name}: {label} has no buddy; its field is {field}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
