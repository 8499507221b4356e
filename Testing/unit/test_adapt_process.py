"""The child process of an adaptation: real processes, small scripts in place of the adaptation."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from XTLLib.errors import Cancelled, XTLError
from XTLLib.training.adapt_outcome import AdaptationOutcome, PartFigures
from XTLLib.training.adapt_process import AdaptProcess, adapt_command
from XTLLib.transfer.figure import Figure


def part(dice: float) -> PartFigures:
    return PartFigures(Figure(dice), Figure(dice / 2), 4, 1)


GOOD = AdaptationOutcome(Path("new"), part(0.4), part(0.7), "the left part of the head", False, 0.5, 0.4)
REFUSED = AdaptationOutcome(None, part(0.4), part(0.3), "the left part of the head", True, 0.5, 0.5)
PROGRESS = {"type": "progress", "stage": "Adapting", "fraction": 0.5, "elapsed_s": 1.0, "eta_s": None, "later": 1}


def run(*messages: dict, code: int = 0, script: str = "") -> AdaptProcess:
    """Start a script that says the messages and ends with the code."""
    lines = "\n".join(json.dumps(message) for message in messages)
    text = f"import sys\nprint({lines!r}, flush=True)\n{script}\nsys.exit({code})"
    process = AdaptProcess("bundle", {}, "mask.nii", "out", command=[sys.executable, "-c", text])
    process.start()
    return process


def drain(process: AdaptProcess, limit_s: float = 120.0) -> list:
    events, deadline = [], time.monotonic() + limit_s
    while process.is_running:
        events += process.poll()
        assert time.monotonic() < deadline, "the process did not end"
        time.sleep(0.02)
    return events


def test_events_come_first_and_then_the_outcome():
    process = run(PROGRESS, {"type": "result", **GOOD.to_dict(), "later": 1})
    events = drain(process)
    assert [(event.stage, event.fraction) for event in events] == [("Adapting", 0.5)]
    assert process.result() == GOOD
    process.close()


def test_the_outcome_needs_no_poll_before_it():
    process = run({"type": "result", **GOOD.to_dict()})
    assert process.result() == GOOD


def test_a_refusal_is_an_outcome_not_an_error():
    error = {"type": "error", "code": 2, "message": "the adapted model is no better. Correct more."}
    process = run({"type": "result", **REFUSED.to_dict()}, error, code=2)
    drain(process)
    outcome = process.result()
    assert outcome.refused and outcome.bundle is None and outcome == REFUSED


def test_the_child_s_own_error_is_the_error():
    process = run({"type": "error", "code": 2, "message": "the mask m.nii is empty. Mark a lesion."}, code=2)
    drain(process)
    with pytest.raises(XTLError, match=r"^the mask m\.nii is empty\. Mark a lesion\.$"):
        process.result()


def test_a_crash_and_a_silent_end_are_errors():
    process = run(PROGRESS, script="raise RuntimeError('out of something')")
    drain(process)
    with pytest.raises(XTLError, match="out of something"):
        process.result()
    silent = run(PROGRESS)
    drain(silent)
    with pytest.raises(XTLError, match="code 0"):
        silent.result()


def test_a_cancel_is_a_message_on_stdin():
    process = run(PROGRESS, code=130, script="assert sys.stdin.readline() == 'cancel\\n'")
    while not process.poll():
        time.sleep(0.02)
    process.cancel()
    assert process.is_cancelling
    drain(process)
    with pytest.raises(Cancelled):
        process.result()
    process.close()


def test_the_command_line():
    command = adapt_command("b", {"FLAIR": Path("f.nii"), "T1": "t.nii"}, "m.nii", "o", ["--steps", "5"], "cpu")
    assert command[0] == sys.executable
    assert command[3:] == [
        "adapt", "--bundle", "b", "--volume", "FLAIR=f.nii", "--volume", "T1=t.nii", "--mask", "m.nii",
        "--out", "o", "--device", "cpu", "--progress", "json", "--steps", "5",
    ]  # fmt: skip
