"""Progress of long work, one mechanism for terminal, parent process and Slicer panel."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TextIO

from .errors import Cancelled


@dataclass(frozen=True)
class ProgressEvent:
    """A moment of a running job.

    Attributes
    ----------
    stage : what is being done, in words a user understands ("MS segmentation: training").
    fraction : how much of the whole job is done, 0 to 1.
    elapsed_s : seconds since the job began.
    eta_s : estimated seconds to the end, None until it can be told.
    figures : named numbers of this moment, for example ``{"loss": 0.31}``.
    """

    stage: str
    fraction: float
    elapsed_s: float
    eta_s: float | None
    figures: dict[str, float] = field(default_factory=dict)


Sink = Callable[[ProgressEvent], None]


class Progress:
    """Reports how far a job is and raises :class:`Cancelled` at the next report after a cancel.

    Parameters
    ----------
    sink : receives every event; None reports to nobody.
    is_cancelled : asked at every report; None never cancels.
    """

    def __init__(self, sink: Sink | None = None, is_cancelled: Callable[[], bool] | None = None) -> None:
        self._sink = sink
        self._is_cancelled = is_cancelled
        self._began = time.monotonic()
        self._span = (0.0, 1.0)
        self._label = ""

    def report(self, stage: str, fraction: float, **figures: float) -> None:
        """Tell that ``fraction`` (0 to 1) of this part is done. Raises Cancelled when asked to stop."""
        stage = f"{self._label}{stage}"
        if self._is_cancelled is not None and self._is_cancelled():
            raise Cancelled(stage)
        if self._sink is None:
            return
        first, last = self._span
        done = first + (last - first) * min(max(fraction, 0.0), 1.0)
        elapsed = time.monotonic() - self._began
        eta = elapsed * (1.0 - done) / done if done > 0.02 or (done > 0 and elapsed > 5) else None
        self._sink(ProgressEvent(stage, done, elapsed, eta, figures))

    def part(self, first: float, last: float, label: str = "") -> Progress:
        """A view of this progress whose 0..1 covers ``first``..``last`` of it; its stages begin with ``label``."""
        a, b = self._span
        child = Progress(self._sink, self._is_cancelled)
        child._began = self._began
        child._span = (a + (b - a) * first, a + (b - a) * last)
        child._label = f"{self._label}{label}: " if label else self._label
        return child


def json_lines_sink(stream: TextIO | None = None) -> Sink:
    """A sink for a parent process: one JSON object a line, flushed, ``{"type": "progress", ...}``."""
    out = stream or sys.stdout

    def sink(event: ProgressEvent) -> None:
        out.write(json.dumps({"type": "progress", **asdict(event)}) + "\n")
        out.flush()

    return sink


class TerminalSink:
    """A tqdm bar with ETA on stderr; on a stream that is no terminal, a line every ten seconds."""

    _SILENCE_S = 10.0

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar = None
        self._last_line = (None, 0.0)

    def __call__(self, event: ProgressEvent) -> None:
        figures = "  ".join(f"{name} {value:.3g}" for name, value in event.figures.items())
        if self._stream.isatty():
            self._draw_bar(event, figures)
        else:
            self._write_line(event, figures)

    def _draw_bar(self, event: ProgressEvent, figures: str) -> None:
        from tqdm import tqdm

        if self._bar is None:
            layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
            self._bar = tqdm(total=1000, file=self._stream, bar_format=layout, dynamic_ncols=True)
        self._bar.set_description_str(event.stage, refresh=False)
        self._bar.set_postfix_str(figures, refresh=False)
        self._bar.update(round(1000 * event.fraction) - self._bar.n)

    def _write_line(self, event: ProgressEvent, figures: str) -> None:
        stage, written = self._last_line
        if stage == event.stage and event.elapsed_s - written < self._SILENCE_S and event.fraction < 1:
            return
        eta = "" if event.eta_s is None else f"  ETA {event.eta_s:.0f} s"
        self._stream.write(f"{event.fraction:4.0%}  {event.stage}  {figures}{eta}\n")
        self._stream.flush()
        self._last_line = (event.stage, event.elapsed_s)

    def close(self) -> None:
        """Leave the bar on the terminal as it stands and start a new line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
