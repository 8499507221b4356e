"""The logs of a run's stages as one table."""

from __future__ import annotations

from XTLLib.training.logs import logs_changed_ns, read_logs


def write(out, stage: str, text: str) -> None:
    folder = out / "stages" / stage
    folder.mkdir(parents=True)
    (folder / "log.tsv").write_text(text)


def test_stages_follow_each_other_and_a_validation_holds_until_the_next(tmp_path):
    header = "step\tloss\tlearning_rate\t"
    write(tmp_path, "02-target", f"{header}validation Dice\n1\t0.9\t0.001\t\n10\t0.5\t0.002\t0.6\n20\t0.4\t0.001\t\n")
    write(tmp_path, "01-intermediate", f"{header}validation AUC\n10\t0.7\t0.0001\t0.55\n")
    assert read_logs(tmp_path) == [
        {"step": 10, "stage": "01-intermediate", "loss": 0.7, "learning_rate": 0.0001, "validation AUC": 0.55},
        {"step": 11, "stage": "02-target", "loss": 0.9, "learning_rate": 0.001},
        {"step": 20, "stage": "02-target", "loss": 0.5, "learning_rate": 0.002, "validation Dice": 0.6},
        {"step": 30, "stage": "02-target", "loss": 0.4, "learning_rate": 0.001, "validation Dice": 0.6},
    ]
    assert logs_changed_ns(tmp_path) > 0


def test_before_the_first_log(tmp_path):
    assert read_logs(tmp_path / "absent") == []
    assert logs_changed_ns(tmp_path) == 0
