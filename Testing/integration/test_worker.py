"""The background worker: real processes, killed, starved, cancelled and forgotten."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from XTLLib.bundle.load import load_bundle
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError, XTLError
from XTLLib.inference import client as client_module
from XTLLib.inference.classify import classify_case
from XTLLib.inference.client import InferenceWorker
from XTLLib.inference.exchange import ExchangeFolder, pack_case, unpack_case
from XTLLib.inference.location import with_locations
from XTLLib.inference.segment import segment_case
from XTLLib.progress import Progress
from XTLLib.scene.self_test import (
    small_brain,
    small_prostate,
    write_classification_bundle,
    write_segmentation_bundle,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_segmentation_bundle(tmp_path_factory.mktemp("bundles") / "ms")


@pytest.fixture(scope="module")
def shared_worker():
    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture
def worker(shared_worker):
    """A warm worker; a test that ends it leaves the next one to start another."""
    yield shared_worker
    assert not shared_worker.is_busy


@pytest.fixture
def exchange(tmp_path, monkeypatch) -> Path:
    """A folder of this test's own for what is exchanged, to see what is left in it."""
    monkeypatch.setattr("XTLLib.inference.exchange._base_folder", lambda: tmp_path)
    return tmp_path


def endless_case(bundle: Path):
    """A case that keeps a worker busy for a long time: the small brain, many times as fine."""
    case = small_brain()
    grid = case.grid.with_spacing((0.8, 0.8, 0.8))
    rng = np.random.default_rng(0)
    large = Volume(rng.uniform(1, 2, grid.shape).astype(np.float32), grid, "large")
    return replace(case, channels=dict.fromkeys(case.channels, large))


def wait_for(condition, limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_a_job_gives_what_the_same_call_gives_here(worker, bundle):
    case, events = small_brain(), []
    result = worker.segment(case, bundle, mirror=True).wait(Progress(events.append))
    here = segment_case(case, load_bundle(bundle), mirror=True)
    assert np.array_equal(result.label.array, here.label.array) and result.lesions == here.lesions
    np.testing.assert_array_equal(result.probability.array, here.probability.array)
    np.testing.assert_array_equal(result.uncertainty.array, here.uncertainty.array)
    assert result.case is case and result.threshold == here.threshold and result.precision == here.precision
    assert np.allclose(result.label.grid.ijk_to_ras, case.grid.ijk_to_ras)
    assert "Segmenting" in {event.stage for event in events}  # shorter stages may pass between two polls


def test_findings_come_back_rated(worker, tmp_path):
    case, path = small_prostate(), write_classification_bundle(tmp_path / "prostate")
    result = worker.classify(case, path).wait()
    here = classify_case(case, load_bundle(path))
    assert result.findings == here.findings and np.array_equal(result.label.array, here.label.array)


def test_everything_said_of_findings_crosses_over_unchanged(worker, tmp_path):
    case = small_prostate()
    paths = [write_classification_bundle(tmp_path / name) for name in ("one", "two")]
    options = {"views": 3, "evidence": ["grad-cam", "occlusion"]}
    result = worker.classify(case, paths, **options).wait()
    here = classify_case(case, [load_bundle(path) for path in paths], **options)
    assert result.findings == here.findings and result.findings[0].interval and result.findings[0].warnings
    assert (result.bundle_name, result.operating_point, result.notes) == (
        here.bundle_name,
        here.operating_point,
        here.notes,
    )
    assert set(result.evidence) == {1, 2}
    for row, maps in here.evidence.items():
        for kind, volume in maps.items():
            sent = result.evidence[row][kind]
            np.testing.assert_array_equal(sent.array, volume.array)
            assert sent.array.dtype == volume.array.dtype and sent.grid.matches(volume.grid) and sent.name == kind


def test_a_moved_finding_sends_no_images_and_is_rated_as_if_it_did(worker, tmp_path):
    case, path = small_prostate(), write_classification_bundle(tmp_path / "prostate")
    model, sizes = load_bundle(path), []
    put = ExchangeFolder.put

    def rate(case, key):
        sizes.append(0)
        worker_job = worker.classify(case, path, case_key=key)
        result = worker_job.wait()
        assert result.findings == classify_case(case, model).findings
        return result

    def counted(self, array):
        sizes[-1] += array.nbytes
        return put(self, array)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ExchangeFolder, "put", counted)
        moved = replace(case, findings=(replace(case.findings[0], position_ras=(3.0, 2.0, 3.0)), case.findings[1]))
        before, after = rate(case, "nodes 1"), rate(moved, "nodes 1")
        assert sizes[0] > 0 and sizes[1] == 0
        assert before.findings[0].probability != after.findings[0].probability
        assert before.findings[1] == after.findings[1]
        brighter = {name: replace(volume, array=volume.array**2) for name, volume in case.channels.items()}
        rate(replace(case, channels=brighter), "nodes 2")  # another key: other images
        lacking = replace(case, channels={name: case.channels[name] for name in ("T2W", "ADC")})
        with pytest.raises(InputError, match="HBV is missing"):
            rate(lacking, "nodes 2")  # the same key with other channels
        rate(case, "nodes 1")
        assert sizes[2] > 0 and sizes[3] > 0 and sizes[4] > 0
        worker.close()
        rate(case, "nodes 1")  # a new process has nothing
        assert sizes[5] > 0


@pytest.mark.long
def test_fifty_jobs_in_a_row_on_one_process(worker, bundle):
    case = small_brain()
    first = worker.segment(case, bundle).wait()
    pid = worker.pid
    for _ in range(49):
        assert np.array_equal(worker.segment(case, bundle).wait().label.array, first.label.array)
    assert worker.pid == pid and not list(worker._folder.path.iterdir())


def test_bad_input_is_the_same_error_as_here(worker, bundle, tmp_path):
    case = small_brain()
    lacking = replace(case, channels={"FLAIR": case.channels["FLAIR"]})
    with pytest.raises(InputError) as here:
        segment_case(lacking, load_bundle(bundle))
    with pytest.raises(InputError) as there:
        worker.segment(lacking, bundle).wait()
    assert str(there.value) == str(here.value)
    with pytest.raises(InputError, match=r"bundle .*nowhere is not a folder"):
        worker.segment(case, tmp_path / "nowhere").wait()
    with pytest.raises(XTLError, match="unexpected TypeError"):
        worker.segment(case, bundle, colour="blue").wait()
    assert worker.segment(case, bundle).wait().lesions


def test_a_cancel_is_heard(worker, bundle):
    with pytest.raises(Cancelled):
        worker.segment(small_brain(), bundle).wait(Progress(None, lambda: True))
    assert worker.segment(small_brain(), bundle).wait().lesions


def test_a_cancel_acts_within_two_seconds_whatever_the_worker_does(worker, bundle, monkeypatch):
    worker.warm(bundle).wait()
    job, pid = worker.segment(endless_case(bundle), bundle, mirror=True), worker.pid
    stages = set()
    wait_for(lambda: stages.update(event.stage for event in job.poll()) or "Segmenting" in stages)
    late = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late[0], sleep=time.sleep)
    monkeypatch.setattr(client_module, "time", clock)  # what the machine is busy with does not count
    job.cancel()
    late[0] = 2.0
    job.poll()
    assert job.is_done
    with pytest.raises(Cancelled):
        job.result()
    wait_for(lambda: worker.pid == pid or not is_alive(pid))
    assert worker.segment(small_brain(), bundle).wait().lesions


def test_a_killed_worker_is_one_clear_error_and_the_next_job_has_a_new_one(worker, bundle, exchange):
    worker.close()
    worker.warm(bundle).wait()
    job, pid = worker.segment(endless_case(bundle), bundle), worker.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(XTLError, match=r"ended unexpectedly; the scene is as it was\. Press Apply again"):
        job.wait()
    assert worker.segment(small_brain(), bundle).wait().lesions and worker.pid != pid
    worker.close()
    assert not list(exchange.iterdir())


def test_an_idle_worker_ends_and_a_new_one_starts_unasked(bundle, exchange):
    worker = InferenceWorker(idle_s=0.5)
    assert worker.segment(small_brain(), bundle).wait().lesions
    pid = worker.pid
    wait_for(lambda: not is_alive(pid))
    assert not list(exchange.iterdir())
    assert worker.segment(small_brain(), bundle).wait().lesions
    worker.close()
    assert not list(exchange.iterdir())


def test_the_worker_ends_with_its_parent(bundle, exchange):
    script = f"""
        import os, sys, time
        from pathlib import Path
        import XTLLib.inference.exchange as exchange
        exchange._base_folder = lambda: Path({str(exchange)!r})
        from XTLLib.inference.client import InferenceWorker
        worker = InferenceWorker()
        worker.warm({str(bundle)!r}).wait()
        print(worker.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert is_alive(pid) and list(exchange.iterdir())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not is_alive(pid))
    assert not list(exchange.iterdir())


def test_what_a_killed_pair_left_is_removed_by_the_next(exchange):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    orphan, other = exchange / f"xtl-exchange-{ended.pid}-abc", exchange / f"xtl-exchange-{os.getpid()}-abc"
    orphan.mkdir()
    other.mkdir()
    folder = ExchangeFolder()
    assert not orphan.exists() and other.exists() and folder.path.stat().st_mode & 0o077 == 0


def test_a_worker_that_falls_silent_is_given_up(worker, bundle, monkeypatch):
    worker.warm(bundle).wait()
    job, pid = worker.segment(small_brain(), bundle), worker.pid
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(client_module, "_SILENCE_S", 2.5)
    with pytest.raises(XTLError, match="ended unexpectedly"):
        job.wait()
    wait_for(lambda: not is_alive(pid))


def test_no_room_for_the_images_is_told_before_anything_runs(worker, bundle, monkeypatch):
    worker.warm(bundle).wait()

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("XTLLib.inference.exchange.open", lambda *_: Full(), raising=False)
    with pytest.raises(XTLError, match=r"MiB cannot be handed over in .* \(No space left on device\). Free some"):
        worker.segment(small_brain(), bundle).wait()
    monkeypatch.undo()
    assert not worker.is_busy and worker.segment(small_brain(), bundle).wait().lesions


def test_images_go_over_in_pieces_and_a_cancel_in_between_sends_nothing(worker, bundle, monkeypatch):
    case = small_brain()
    expected = worker.segment(case, bundle).wait()
    monkeypatch.setattr("XTLLib.inference.exchange._PIECE", 5000)
    write_some = ExchangeFolder.write_some
    monkeypatch.setattr(ExchangeFolder, "write_some", lambda self: write_some(self, 0.0))  # one piece at a time
    job = worker.segment(case, bundle)
    assert job.poll() == [] and worker.is_busy
    job.cancel()
    assert job.is_done and not worker.is_busy
    with pytest.raises(Cancelled):
        job.result()
    result = worker.segment(case, bundle).wait()
    np.testing.assert_array_equal(result.probability.array, expected.probability.array)
    assert result.lesions == expected.lesions


def test_the_worker_locates_the_lesions(worker, bundle):
    case = small_brain()
    values = np.full(case.grid.shape, 2, np.int16)
    third = values.shape[2] // 3
    values[..., :third], values[..., -third:] = 4, 3
    tissue = Volume(values, case.grid, "aseg")
    result = worker.segment(case, bundle, tissue=tissue).wait()
    expected = with_locations(worker.segment(case, bundle).wait(), tissue)
    assert result.lesions == expected.lesions
    assert result.location_rule == expected.location_rule
    assert {lesion.location for lesion in result.lesions} != {""}
    useless = worker.segment(case, bundle, tissue=Volume(np.full_like(values, 2), case.grid, "white")).wait()
    assert {lesion.location for lesion in useless.lesions} == {""}
    assert "white has no voxel of lateral ventricles" in useless.notes[-1]


def test_a_busy_worker_takes_no_second_job(worker, bundle):
    job = worker.segment(small_brain(), bundle)
    with pytest.raises(XTLError, match="busy"):
        worker.segment(small_brain(), bundle)
    assert job.wait().lesions


def test_a_case_goes_over_and_back_without_its_patient(exchange):
    case, folder = small_prostate(), ExchangeFolder()
    packed = pack_case(case, folder)
    assert case.patient not in str(packed)
    copy = unpack_case(packed, folder)
    assert copy.findings == case.findings and copy.reference == case.reference and copy.patient == "case"
    for name, volume in case.channels.items():
        assert np.array_equal(copy.channels[name].array, volume.array)
        assert np.array_equal(copy.channels[name].grid.ijk_to_ras, volume.grid.ijk_to_ras)
    folder.remove()


def test_a_bundle_that_was_trained_again_is_read_again(worker, tmp_path):
    path = write_segmentation_bundle(tmp_path / "again")
    before = worker.segment(small_brain(), path).wait()
    described = (path / "configs" / "xtl.json").read_text()
    (path / "configs" / "xtl.json").write_text(described.replace('"name": "untrained-ms"', '"name": "trained-again"'))
    after = worker.segment(small_brain(), path).wait()
    assert (before.bundle_name, after.bundle_name) == ("untrained-ms", "trained-again")
