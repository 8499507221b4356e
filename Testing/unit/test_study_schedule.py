"""Who does which run of a study when, and what becomes of one that fails: with a pool that is told what to do."""

from __future__ import annotations

import io
import threading
from collections import Counter

import pytest
from XTLLib.errors import Cancelled, InputError
from XTLLib.progress import Progress
from XTLLib.study.board import Board, figure_of_run
from XTLLib.study.places import places_here, usable_cores
from XTLLib.study.pool import RunReport
from XTLLib.study.runs import PlannedRun
from XTLLib.study.schedule import in_good_order, run_tasks
from XTLLib.study.task import RunOutcome, RunTask, read_outcome, write_outcome
from XTLLib.training.stage_folder import StageFolder


def task(name: str, seed: int = 0, mammograms: str | None = None, out: str = "out") -> RunTask:
    stages = [{"kind": "initialisation", "weights": "random"}, {"kind": "target"}]
    if mammograms:
        stages.insert(1, {"kind": "intermediate", "datalist": mammograms})
    arm = {"backbone": "squeezenet1_0", "stages": stages}
    return RunTask(f"key-{name}", name, seed, arm, "target.json", {"training": ("a", "b"), "test": ("c",)}, out)


class ToldPool:
    """Answers each attempt at a run with the next of the states that stand for it; "done" where there are none."""

    def __init__(self, places: int = 2, **states: list[str]) -> None:
        self.places, self._states = places, states
        self.begun: list[str] = []
        self._running: list[RunTask] = []

    @property
    def is_free(self) -> bool:
        return len(self._running) < self.places

    def submit(self, run: RunTask) -> None:
        assert self.is_free
        self.begun.append(run.name)
        self._running.append(run)

    def poll(self, timeout_s: float) -> list[RunReport]:
        run = self._running.pop(0)
        states = self._states.get(run.name, [])
        return [RunReport(run.key, states.pop(0) if states else "done", message="by signal 9")]


def ignore(*_: object) -> None:
    pass


def test_shared_stages_come_first_and_those_who_need_them_last():
    tasks = [task("TL-0"), task("XTL-0", 0, "m"), task("XTL-1", 0, "m"), task("XTL-2", 1, "m"), task("TL-1")]
    assert [t.name for t in in_good_order(tasks)] == ["XTL-0", "XTL-2", "TL-0", "TL-1", "XTL-1"]


def test_a_stage_that_learns_from_the_fold_is_shared_by_runs_of_that_fold_only():
    one, same = task("a", 0, "target.json"), task("b", 0, "target.json")
    other = RunTask("key-c", "c", 0, one.arm, "target.json", {"training": ("b", "c"), "test": ("a",)}, "out")
    assert [t.name for t in in_good_order([one, same, other])] == ["a", "c", "b"]


def test_a_run_whose_process_dies_is_tried_once_more_and_the_others_go_on():
    pool = ToldPool(once=["died"], twice=["died", "died"], wrong=["failed"])
    failures = run_tasks([task(name) for name in ("once", "twice", "wrong", "right")], pool, ignore)
    assert Counter(pool.begun) == {"once": 2, "twice": 2, "wrong": 1, "right": 1}
    assert {(f.name, f.message) for f in failures} == {("twice", "by signal 9"), ("wrong", "by signal 9")}


def test_what_the_listener_raises_ends_the_work():
    def stop(*_: object) -> None:
        raise Cancelled("stop")

    pool = ToldPool()
    with pytest.raises(Cancelled):
        run_tasks([task("a"), task("b")], pool, stop)
    assert pool.begun == ["a"]


def test_a_task_is_plain_values_and_its_outcome_is_exact(tmp_path):
    one = task("a", out=str(tmp_path))
    assert RunTask.from_dict(one.to_dict()) == one
    assert read_outcome(one) is None
    outcome = RunOutcome({"c": {"truth": 1.0, "score": 0.1 + 0.2}}, 1.5, {"stage": 1.25})
    write_outcome(one, outcome)
    assert read_outcome(one) == outcome
    (one.folder / "values.json").write_text('{"key": ')
    with pytest.raises(InputError, match=r"values\.json cannot be read"):
        read_outcome(one)


def test_the_board_reckons_with_what_is_left_of_this_session():
    board = Board.of([PlannedRun("TL", 0, 0, fold) for fold in range(4)], "auc")
    board.arms["TL"].finished = board.kept = 2
    assert board.fraction == 0
    board.running["TL/seed-0"] = (0.5, "training")
    board.arms["TL"].failed = 1
    assert board.fraction == 0.75
    assert board.line == "2 of 4 runs finished, 1 failed"


def test_the_figure_of_a_run():
    values = {"a": {"truth": 1.0, "score": 0.6}, "b": {"truth": 0.0, "score": 0.7}, "c": {"truth": 0.0, "score": 0.1}}
    assert figure_of_run(values, "auc") == 0.5  # one of two pairs in order
    assert figure_of_run({"a": values["a"]}, "auc") is None
    assert figure_of_run({"a": {"lesion_f1": 0.5}, "b": {"lesion_f1": float("nan")}}, "lesion-f1") == 0.5


def test_the_live_table_names_arms_and_runs():
    from rich.console import Console
    from XTLLib.study.table import table_of

    board = Board.of([PlannedRun("TL", 0, 0, 0), PlannedRun("XTL", 0, 0, 0)], "auc")
    board.arms["TL"].finished, board.arms["TL"].figures = 1, [0.75]
    board.running["XTL/seed-0/repeat-0/fold-0/size-all"] = (0.5, "training")
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(table_of(board, "toy", 90))
    text = console.export_text()
    for words in ("toy: 1 of 2 runs finished, 0:01:30 so far, about 0:00:30 left", "0.750", "1 of 1", "50%", "fold-0"):
        assert words in text


@pytest.mark.parametrize("threads", [1, 2])
def test_processes_times_threads_fit_the_cores(threads):
    places = places_here("cpu", threads=threads, memory_gib=0.001)
    assert places == ("cpu",) * max(1, usable_cores() // threads)


def test_memory_limits_the_processes_but_leaves_one():
    assert places_here("cpu", memory_gib=1e6) == ("cpu",)
    assert places_here("cpu", processes=5) == ("cpu",) * 5
    with pytest.raises(InputError, match="--processes is 0"):
        places_here("cpu", processes=0)


def test_of_two_that_want_a_stage_one_waits_and_then_finds_it(tmp_path):
    first = StageFolder(tmp_path / "a", "key", tmp_path / "cache")
    second = StageFolder(tmp_path / "b", "key", tmp_path / "cache")
    waits, order = threading.Event(), []

    def want() -> None:
        with second.alone(Progress(lambda event: waits.set())):
            order.append("second")

    with first.alone(Progress()):
        other = threading.Thread(target=want)
        other.start()
        assert waits.wait(10)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


def test_who_waits_for_a_stage_can_be_cancelled(tmp_path):
    folders = [StageFolder(tmp_path / name, "key", tmp_path / "cache") for name in "ab"]
    cancelled = Progress(None, lambda: True)
    with folders[0].alone(Progress()), pytest.raises(Cancelled), folders[1].alone(cancelled):
        raise AssertionError("it was not alone")
