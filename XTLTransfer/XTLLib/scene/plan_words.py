"""Plans of chains and studies, and the data of a chain, in the rich text that a label shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ..training.plan_text import duration


def chain_plan_text(plan: Mapping[str, Any]) -> str:
    """A plan (training.plan.ChainPlan.to_dict) as a table of its stages, a total and its notes."""
    from slicer.i18n import tr as _

    head = (_("Stage"), _("Parameters"), _("Patients"), _("Steps"), _("Memory"), _("Time"))
    rows = [
        (
            f"{stage['number']} {stage['task']}",
            f"{stage['parameters'] / 1e6:.1f} M",
            "{} + {}".format(*stage["patients"]),
            f"{stage['steps']}",
            _size(stage["memory_mib"]),
            _time(stage["seconds"]),
        )
        for stage in plan["stages"]
    ]
    total = _("All stages on {device}: {time}, {memory} at the peak. Patients: training + validation.").format(
        device=plan["device"], time=_time(plan["seconds"]), memory=_size(plan["memory_mib"])
    )
    carried = [
        _("Stage {number}: {share:.0%} of the weights are carried over.").format(
            number=stage["number"], share=stage["carried_share"]
        )
        for stage in plan["stages"]
    ]
    notes = [
        _("Stage {number}: {note}.").format(number=stage["number"], note=note)
        for stage in plan["stages"]
        for note in stage["notes"]
    ]
    return "<br>".join((table(head, rows), *map(escape, (total, *carried, *notes))))


def study_plan_text(plan: Mapping[str, Any]) -> str:
    """A plan (study.plan.StudyPlan.to_dict): the power statement, the arms, time and memory."""
    from slicer.i18n import tr as _

    head = (_("Arm"), _("Runs"), _("A run takes"), _("Memory"))
    rows = [
        (
            arm["name"],
            f"{arm['finished']} / {arm['runs']}",
            "" if arm["seconds"] is None else _time(arm["seconds"]),
            "" if arm["memory_mib"] is None else _size(arm["memory_mib"]),
        )
        for arm in plan["arms"]
    ]
    total = _("{runs} runs, {finished} of them finished; {patients} patients; time left on {device}: {time}.").format(
        **{**plan, "time": _time(plan["seconds"])}
    )
    power = f"<b>{escape(_('Power'))}:</b> {escape(plan['power'])}"
    notes = "".join(f"<br>{escape(note)}." for note in plan["notes"])
    return f"{table(head, rows)}<br>{escape(total)}<br>{power}{notes}"


def data_text(stages: Iterable[Mapping[str, Any]], data: Iterable[Mapping[str, Any]], words: Mapping[str, str]) -> str:
    """The data of each stage in a line, and the first cases of the last one as a table.

    Parameters
    ----------
    stages, data : of training.preview.ChainPreview, from the same stage on. words : kind of a stage -> its name.
    """
    from slicer.i18n import tr as _

    lines, rows = [], ()
    for stage, found in zip(stages, data):
        lines.append(f"<b>{escape(words[stage['kind']])}:</b> {escape(found['line'] or found['problem'])}")
        rows = found["rows"]
    if rows:
        head = (_("Case"), _("Patient"), _("Part"), _("Label"))
        lines.append(table(head, [[_short(cell) for cell in row] for row in rows]))
    return "<br>".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as rich text, without colours of its own."""
    cells = "".join(f'<th align="left">{escape(text)}</th>' for text in head)
    lines = [[escape(first), *(escape(text).replace(" ", "&nbsp;") for text in rest)] for first, *rest in rows]
    body = "".join("<tr>" + "".join(f"<td>{text}</td>" for text in line) + "</tr>" for line in lines)
    return f'<table cellpadding="3" cellspacing="0" border="0"><tr>{cells}</tr>{body}</table>'


def _time(seconds: float | None) -> str:
    from slicer.i18n import tr as _

    return _("unknown") if seconds is None else _("about {time}").format(time=duration(seconds))


def _size(mib: float | None) -> str:
    from slicer.i18n import tr as _

    if mib is None:
        return _("unknown")
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


def _short(text: str, longest: int = 18) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
