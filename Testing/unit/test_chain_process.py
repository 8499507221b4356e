"""The child process of a training run: real processes, small scripts in place of the training."""

from __future__ import annotations

import os
import sys
import time

import pytest
from XTLLib.errors import Cancelled, XTLError
from XTLLib.training.process import ChainProcess, train_command


def run(tmp_path, script: str, grace_s: float = 20.0) -> ChainProcess:
    """Start a script whose first argument is the output folder."""
    command = [sys.executable, "-c", script, str(tmp_path)]
    process = ChainProcess("chain.yaml", tmp_path, grace_s=grace_s, command=command)
    process.start()
    return process


def drain(process: ChainProcess, limit_s: float = 50.0) -> list:
    events, deadline = [], time.monotonic() + limit_s
    while process.is_running:
        events += process.poll()
        assert time.monotonic() < deadline, "the process did not end"
        time.sleep(0.02)
    return events


def test_progress_arrives_in_order_and_the_bundle_is_the_result(tmp_path):
    script = """
import json, pathlib, sys
print("a library that prints")
for step in range(3):
    print(json.dumps({"type": "progress", "stage": f"stage {step}", "fraction": step / 2, "elapsed_s": 1.0,
                      "eta_s": None, "figures": {"loss": 0.5}, "later": "unknown keys are left alone"}))
pathlib.Path(sys.argv[1], "bundle").mkdir()
"""
    process = run(tmp_path, script)
    events = drain(process)
    assert [event.stage for event in events] == ["stage 0", "stage 1", "stage 2"]
    assert [event.fraction for event in events] == [0.0, 0.5, 1.0]
    assert events[0].figures == {"loss": 0.5}
    assert process.result() == tmp_path / "bundle"
    process.close()


def test_the_child_s_own_error_is_the_error(tmp_path):
    script = """
import json, sys
print(json.dumps({"type": "error", "code": 2, "message": "chain.yaml line 3 names no file. Name one."}))
sys.exit(2)
"""
    process = run(tmp_path, script)
    drain(process)
    with pytest.raises(XTLError, match=r"^chain\.yaml line 3 names no file\. Name one\.$"):
        process.result()


def test_a_crash_reports_the_last_words(tmp_path):
    process = run(tmp_path, "raise RuntimeError('out of something')")
    drain(process)
    with pytest.raises(XTLError, match="out of something"):
        process.result()


def test_a_child_that_vanishes_silently_is_an_error(tmp_path):
    process = run(tmp_path, "import os; os._exit(9)")
    drain(process)
    with pytest.raises(XTLError, match="code 9"):
        process.result()


def test_success_without_a_bundle_is_an_error(tmp_path):
    process = run(tmp_path, "pass")
    drain(process)
    with pytest.raises(XTLError):
        process.result()


def test_cancel_is_a_message_first(tmp_path):
    script = """
import pathlib, sys
print('{"type": "progress", "stage": "s", "fraction": 0, "elapsed_s": 0, "eta_s": null}', flush=True)
line = sys.stdin.readline()
pathlib.Path(sys.argv[1], "heard").write_text(line)
sys.exit(130)
"""
    process = run(tmp_path, script)
    process.cancel()
    assert process.is_cancelling
    drain(process)
    with pytest.raises(Cancelled):
        process.result()
    assert (tmp_path / "heard").read_text() == "cancel\n"


@pytest.mark.skipif(os.name == "nt", reason="process groups of POSIX")
def test_a_deaf_child_and_its_children_are_ended_after_the_grace(tmp_path):
    script = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", deaf])
pathlib.Path(sys.argv[1], "pid").write_text(str(child.pid))
print('{"type": "progress", "stage": "deaf", "fraction": 0, "elapsed_s": 0, "eta_s": null}', flush=True)
time.sleep(60)
"""
    process = run(tmp_path, script, grace_s=0.4)
    while not process.poll():
        time.sleep(0.02)
    process.cancel()
    began = time.monotonic()
    drain(process)
    assert 0.4 < time.monotonic() - began < 50, "they were waited for: they sleep for 60 s"
    with pytest.raises(Cancelled):
        process.result()
    grandchild = int((tmp_path / "pid").read_text())
    assert not _is_alive(grandchild)


def test_close_ends_the_child_at_once(tmp_path):
    process = run(tmp_path, "import time; time.sleep(60)")
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < 50, "it was waited for: it sleeps for 60 s"
    assert not process.is_running


def test_close_with_patience_lets_the_child_put_its_things_away(tmp_path):
    script = """
import pathlib, sys
print('{"type": "progress", "stage": "s", "fraction": 0, "elapsed_s": 0, "eta_s": null}', flush=True)
sys.stdin.readline()
pathlib.Path(sys.argv[1], "checkpoint").touch()
"""
    process = run(tmp_path, script)
    process.close(patience_s=20)
    assert (tmp_path / "checkpoint").exists()


def test_close_after_a_cancel_that_came_too_late(tmp_path):
    process = run(tmp_path, "import os; os.close(0); import time; time.sleep(0.3); os._exit(0)")
    time.sleep(0.1)
    process.cancel()
    drain(process)
    process.close(patience_s=5)
    process.close()


def test_a_program_that_is_not_there_is_an_xtl_error(tmp_path):
    process = ChainProcess("chain.yaml", tmp_path, command=[str(tmp_path / "no-python")])
    with pytest.raises(XTLError, match="no-python"):
        process.start()


def test_a_missing_chain_file_comes_back_from_the_real_command(tmp_path):
    process = ChainProcess(tmp_path / "absent.yaml", tmp_path / "out")
    process.start()
    drain(process, limit_s=120)
    with pytest.raises(XTLError, match=r"absent\.yaml"):
        process.result()


def test_command_line():
    command = train_command("c.yaml", "o", resume=True, device="cpu")
    assert command[0] == sys.executable
    assert command[3:] == ["train", "c.yaml", "--out", "o", "--device", "cpu", "--progress", "json", "--resume"]


def _is_alive(pid: int) -> bool:
    for _ in range(100):  # an orphan stays a zombie until its new parent has noticed
        try:
            with open(f"/proc/{pid}/stat") as stream:
                if stream.read().split()[2] == "Z":
                    return False
        except OSError:
            return False
        time.sleep(0.05)
    return True
