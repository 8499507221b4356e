"""``xtl adapt`` as a user and a panel meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk
from toy_bundles import write_toy_bundle
from toys import CHANNELS, write_toy_volumes
from XTLLib.bundle.load import load_bundle
from XTLLib.bundle.verify import verify_bundle
from XTLLib.cli import main
from XTLLib.training.adapt_process import AdaptProcess

SETTINGS = """window: [16, 16, 16]
margin_mm: 2
refit: false
training: {batch_size: 2}
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder with a bundle, two cases p0 and p1, their datalist, and settings that are quick."""
    folder = tmp_path_factory.mktemp("toy")
    write_toy_volumes(folder, training=2, validation=1)
    write_toy_bundle(folder / "bundle")
    (folder / "quick.yaml").write_text(SETTINGS)
    return folder


def arguments(toy: Path, out: Path, *more: str, mask: str = "p0_mask.nii", channels=CHANNELS) -> list[str]:
    volumes = [f"--volume={name}={toy / f'p0_{name}.nii'}" for name in channels]
    case = ["adapt", "--bundle", str(toy / "bundle"), *volumes, "--mask", str(toy / mask), "--out", str(out)]
    return [*case, "--settings", str(toy / "quick.yaml"), "--steps", "2", "--device", "cpu", *more]


def adapt(toy: Path, out: Path, *more: str, **options) -> int:
    return main(arguments(toy, out, "--progress", "none", *more, **options))


def require_nothing(out: Path) -> None:
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*")), "a draft was left behind"


def require_refusal(code: int, capsys, out: Path, *words: str) -> None:
    """Exit code 2, one line on stderr with all the words, and nothing written."""
    message = capsys.readouterr().err
    assert code == 2, message
    assert message.startswith("xtl: error: ") and message.count("\n") == 1, message
    for word in words:
        assert word in message
    require_nothing(out)


def test_one_corrected_case_with_replay_leaves_a_bundle_and_says_what_it_came_to(toy, tmp_path, capsys):
    out = tmp_path / "adapted"
    assert adapt(toy, out, "--force", "--replay", str(toy / "volumes.json"), "--name", "mine") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: Dice ") and "on the source data Dice" in said
    assert "Research software, not a medical device" in said
    assert verify_bundle(out).agrees
    adapted = load_bundle(out)
    assert adapted.name == "mine"
    stage = adapted.provenance["stages"][-1]
    assert stage["kind"] == "adaptation" and stage["configuration"]["training"]["steps"] == 2
    assert str(tmp_path) not in json.dumps(adapted.provenance)


def test_several_cases_come_from_a_datalist(toy, tmp_path, capsys):
    out = tmp_path / "adapted"
    command = ["adapt", "--bundle", str(toy / "bundle"), "--datalist", str(toy / "volumes.json"), "--out", str(out)]
    more = ["--settings", str(toy / "quick.yaml"), "--steps", "1", "--peft", "ssf", "--force", "--progress", "none"]
    assert main([*command, *more]) == 0
    assert "1 of 3 corrected patients" in capsys.readouterr().out
    stage = load_bundle(out).provenance["stages"][-1]
    assert (stage["datalist"]["name"], stage["datalist"]["patients"]) == ("toy volumes", 3)
    assert stage["configuration"]["training"]["peft"] == "ssf"


def test_no_better_is_not_written_and_is_said(toy, tmp_path, capsys, monkeypatch):
    bundle, out = write_toy_bundle(tmp_path / "bundle"), tmp_path / "adapted"
    described = json.loads((bundle / "configs" / "xtl.json").read_text())
    described["postprocessing"]["threshold"] = 1.0  # which hardly a probability reaches
    (bundle / "configs" / "xtl.json").write_text(json.dumps(described))
    command = [word if word != str(toy / "bundle") else str(bundle) for word in arguments(toy, out)]
    with open(os.devnull) as silence:
        monkeypatch.setattr(sys, "stdin", silence)
        assert main([*command, "--progress", "json"]) == 2
    output = capsys.readouterr()
    result, error = (json.loads(line) for line in output.out.splitlines()[-2:])
    assert output.err.count("\n") == 1 and "--force" in output.err
    assert result["type"] == "result" and result["refused"] and result["bundle"] is None
    assert result["after"]["dice"]["value"] <= result["before"]["dice"]["value"]
    assert error["type"] == "error" and "no better" in error["message"]
    require_nothing(out)


def test_bad_input_is_named(toy, tmp_path, capsys):
    out = tmp_path / "adapted"
    mask = sitk.ReadImage(str(toy / "p0_mask.nii"))
    sitk.WriteImage(mask * 0, str(toy / "empty.nii"))
    require_refusal(adapt(toy, out, mask="empty.nii"), capsys, out, "no corrected lesion", "empty.nii")
    require_refusal(adapt(toy, out, mask="absent.nii"), capsys, out, "absent.nii", "does not exist")
    require_refusal(adapt(toy, out, channels=CHANNELS[:1]), capsys, out, "channel T1 is missing")
    require_refusal(adapt(toy, out, channels=()), capsys, out, "--mask without --volume")
    require_refusal(adapt(toy, out, "--steps", "0"), capsys, out, "steps")
    (toy / "odd.yaml").write_text("training: {stps: 3}\n")
    require_refusal(adapt(toy, out, "--settings", str(toy / "odd.yaml")), capsys, out, "line 1", "stps", "steps")
    command = ["adapt", "--bundle", str(toy / "bundle"), "--out", str(out), "--progress", "none"]
    require_refusal(main(command), capsys, out, "no corrected case")


def test_a_bundle_is_replaced_only_when_asked_to(toy, tmp_path, capsys):
    bundle = write_toy_bundle(tmp_path / "bundle")
    weights = (bundle / "models" / "model.pt").read_bytes()
    command = [word if word != str(toy / "bundle") else str(bundle) for word in arguments(toy, bundle, "--force")]
    assert main([*command, "--progress", "none"]) == 2
    assert "in use" in capsys.readouterr().err
    assert (bundle / "models" / "model.pt").read_bytes() == weights
    assert main([*command, "--progress", "none", "--replace"]) == 0
    assert load_bundle(bundle).name == "toy-adapted" and verify_bundle(bundle).agrees


def test_the_panel_s_process_gets_events_and_the_outcome(toy, tmp_path):
    volumes = {name: toy / f"p0_{name}.nii" for name in CHANNELS}
    options = ["--settings", str(toy / "quick.yaml"), "--steps", "2", "--force"]
    process = AdaptProcess(
        toy / "bundle", volumes, toy / "p0_mask.nii", tmp_path / "out", options=options, device="cpu"
    )
    process.start()
    stages = []
    while process.is_running:
        stages += [event.stage for event in process.poll()]
        time.sleep(0.02)
    outcome = process.result()
    process.close()
    assert "Adapting" in stages and stages[-1] == "Adapted"
    assert outcome.bundle == tmp_path / "out" and outcome.after.cases == 1
    assert load_bundle(outcome.bundle).threshold == outcome.threshold


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_cancelled_or_killed_adaptation_leaves_nothing_that_looks_whole(toy, tmp_path, end):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "XTLLib.cli", *arguments(toy, out, "--force", "--steps", "5000")]
    with subprocess.Popen(
        [*command, "--progress", "json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        for line in running.stdout:
            if json.loads(line)["stage"] == "Adapting":
                break
        if end == "kill":
            running.send_signal(signal.SIGKILL)
        rest, _ = running.communicate("cancel\n" if end == "cancel" else None, timeout=240)
    assert running.returncode == (130 if end == "cancel" else -signal.SIGKILL)
    if end == "cancel":
        assert json.loads(rest.splitlines()[-1])["message"] == "cancelled"
    assert list(tmp_path.iterdir()) == []
    assert verify_bundle(toy / "bundle").agrees


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_one_case_of_a_new_scanner_brings_back_half_of_the_lost_dice_in_three_minutes(tmp_path, monkeypatch):
    """On an idle machine with two cores; each adaptation is a process of its own, started as users start it."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    import adaptation

    bundle = adaptation.train_model(tmp_path, adaptation.FULL)
    for seed in (0, 1):
        run = adaptation.adapt_to_new_scanner(bundle, tmp_path, adaptation.FULL, seed)
        print(run)
        assert run.ordinary - run.before > 0.2, run
        assert run.share >= adaptation.RECOVERY_TARGET, run
        assert run.seconds <= adaptation.SECONDS_TARGET, run
