"""A chain as a row of boxes with arrows, in the rich text that a label shows: sharp at any scale, in any style."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

# State -> background. White text on each has a contrast above 4.5:1, on a light and on a dark panel alike.
_COLOURS = {"waiting": "#5f6b7a", "running": "#1f5fbf", "stopped": "#8a5a00", "done": "#1f7a3d", "kept": "#0f6e6e"}
_TASKS = {
    "imagenet": "ImageNet",
    "mammogram-classification": "mammogram classification",
    "mammogram-segmentation": "mammogram segmentation",
}


@dataclass(frozen=True)
class Box:
    """A stage in the row. ``state`` : waiting, running, stopped, done or kept (found finished, not trained again)."""

    kind: str
    task: str
    state: str
    text: str = ""


def boxes_of(
    stages: Sequence[Mapping[str, Any]], out: Path | None, is_running: bool, kept: frozenset[str] = frozenset()
) -> tuple[Box, ...]:
    """The stages of a chain as they stand in an output folder.

    Parameters
    ----------
    stages : as in the answer of training.preview. out : folder of the run, None before there is one.
    is_running : whether it is at work there now. kept : folders of stages that were finished before it began.
    """
    boxes = []
    for number, stage in enumerate(stages):
        folder = None if out is None else out / "stages" / f"{number:02d}-{stage['kind']}"
        state = "waiting"
        if folder is not None and (folder / "record.json").is_file():
            state = "kept" if folder.name in kept else "done"
        elif folder is not None and folder.is_dir():
            state = "running" if is_running else "stopped"
        budget = f"{stage['budget']} {stage['unit']}" if stage["unit"] else ""
        boxes.append(Box(stage["kind"], _TASKS.get(stage["task"], stage["task"]), state, budget))
    return tuple(boxes)


def finished_stages(out: Path) -> frozenset[str]:
    """Names of the folders of the stages that are finished in a run's folder."""
    return frozenset(path.parent.name for path in out.glob("stages/*/record.json"))


def picture_of(boxes: Sequence[Box], words: Mapping[str, str]) -> str:
    """The row as rich text. ``words`` : kind or state -> how it is called in the user's language."""
    cells = []
    for box in boxes:
        lines = [f"<b>{escape(words.get(box.kind, box.kind))}</b>", *map(escape, (*box.task.split(), box.text))]
        lines.append(f"<i>{escape(words.get(box.state, box.state))}</i>")
        text = "<br>".join(line for line in lines if line)
        cells.append(
            f'<td bgcolor="{_COLOURS[box.state]}" align="center" valign="middle">'
            f'<span style="color:#ffffff">{text}</span></td>'
        )
    arrow = '<td valign="middle">&nbsp;<b>&rarr;</b>&nbsp;</td>'
    return f'<table cellpadding="5" cellspacing="0"><tr>{arrow.join(cells)}</tr></table>'


def figures_of(out: Path) -> str:
    """The figures of a finished run in one line; "" where there are none."""
    try:
        stages = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    figures = stages[-1] if stages else {}
    parts = []
    for name, value in figures.items():
        value = value.get("value") if isinstance(value, dict) else value
        if isinstance(value, float) and name != "seconds":
            parts.append(f"{name} {value:.3g}")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]
