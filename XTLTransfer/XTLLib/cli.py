"""The command ``xtl``: parses, calls a room, prints.

Exit codes: 0 success, 2 bad input (one line, no traceback), 130 cancelled, 1 anything unexpected.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from . import __version__
from .cli_adapt import add_adapt_options, run_adapt
from .cli_arguments import name_and_value, read_volumes, tell_result
from .cli_classify import add_classify_arguments, classify
from .cli_compare import add_compare_arguments, compare
from .cli_models import add_models_actions
from .cli_segment import add_segment_arguments, segment
from .cli_study import add_study_options, run_study_command
from .cli_view import add_view_arguments, show_at_the_end, view
from .errors import Cancelled, InputError, XTLError
from .failures import explain
from .progress import Progress, TerminalSink, json_lines_sink

# What glibc is told when it starts: keep freed pages (see _keep_freed_memory).
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``xtl`` with ``argv`` (default: the process's own arguments) and return the exit code."""
    if argv is None:
        _keep_freed_memory()
        argv = sys.argv[1:]
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.command(arguments) or 0
    except XTLError as error:
        return _fail(arguments, str(error), 2)
    except (Cancelled, KeyboardInterrupt):
        return _fail(arguments, "cancelled", 130)
    except Exception as error:
        return _fail(arguments, _line_about(error), 1)


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar; every sub-command's function stands in ``command``."""
    from .data.layouts import LAYOUTS

    parser = _Parser(
        prog="xtl", description="Transfer learning from mammograms to MRI. Research software, not a medical device."
    )
    parser.add_argument("--version", action="version", version=f"xtl {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    demo = _add(commands, "demo", _demo, "the whole chain on generated phantoms, ends in a scene")
    demo.add_argument("--out", type=Path, default=Path("build/demo"))
    demo.add_argument(
        "--weights",
        type=Path,
        help="ImageNet state dict for the backbone (torchvision key names); without it both arms start at random",
    )
    demo.add_argument("--no-view", action="store_true", help="do not show the scene in the browser at the end")

    data = _add(commands, "data", _data, "read a public layout into a MONAI Decathlon datalist")
    data.add_argument("layout", choices=LAYOUTS)
    data.add_argument("source", type=Path, metavar="SRC")
    data.add_argument("--out", type=Path, required=True, metavar="DATALIST.json")
    data.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the layout, for example target=cancel or raters=staple; Resources/Docs/data.md lists them",
    )
    data.add_argument("--validation", type=float, default=0.0, metavar="SHARE", help="share of patients for validation")
    data.add_argument("--test", type=float, default=0.0, metavar="SHARE", help="share of patients for test")
    data.add_argument("--seed", type=int, default=0)

    train = _add(commands, "train", _train, "run a chain; its last stage leaves a bundle")
    train.add_argument("chain", type=Path, metavar="CHAIN.yaml")
    train.add_argument("--out", type=Path, help="the run's folder; needed unless --dry-run")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out where it was interrupted")
    train.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything and print the plan: stages, parameters, weights carried over, memory, time",
    )
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="takes the place of what the chain file says, for example seed=3 or stages.target.training.steps=100",
    )
    train.add_argument(
        "--checkpoint-every", type=float, default=60.0, metavar="SECONDS", help="between checkpoints (default: 60)"
    )

    add_segment_arguments(_add(commands, "segment", _segment, "segment MS lesions in one case, or in a datalist's"))

    add_classify_arguments(
        _add(commands, "classify", _classify, "rate prostate findings of one case, or those of a datalist")
    )

    add_compare_arguments(
        _add(commands, "compare", _compare, "follow a patient's lesions over two or more time points")
    )

    add_study_options(_add(commands, "study", _study, "run arms x folds x seeds and compare them"))

    adapt = _add(commands, "adapt", _adapt, "let a segmentation bundle learn from corrected cases of a new scanner")
    add_adapt_options(adapt)

    check = _add(commands, "check", _check, "say what is installed and whether it works, in a text for a forum post")
    check.add_argument("--out", type=Path, metavar="FILE.txt", help="write the text to a file, too")

    models = _add(commands, "models", None, "the model library")  # each of its actions has its command
    add_models_actions(models, _progress, lambda arguments, words: print(words, file=_notes(arguments)))

    add_view_arguments(_add(commands, "view", view, "show a scene file as a web page, on this machine alone"))

    bench = _add(commands, "bench", _bench, "the benchmarks of Testing/benchmarks, beside their peers")
    bench.add_argument("names", nargs="*", metavar="NAME", help="default: all; --list names them")
    bench.add_argument("--quick", action="store_true", help="small sizes, few rounds: a smoke test, not a figure")
    bench.add_argument("--out", type=Path, metavar="FILE.json")
    bench.add_argument("--list", action="store_true", help="say what there is, measure nothing")
    return parser


def _add(commands, name: str, command: Callable | None, summary: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=command)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--progress",
        choices=("terminal", "json", "none"),
        default="terminal",
        help="json: an object a line on stdout; the line 'cancel' on stdin, or its pipe's end, stops the work",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


# --- commands ---------------------------------------------------------------------------------


def _demo(arguments: argparse.Namespace) -> None:
    from .scene.demo import run_demo

    with _progress(arguments) as progress:
        result = run_demo(arguments.out, progress=progress, device=arguments.device, weights=arguments.weights)
    print(result.table_text)
    if not arguments.no_view:
        show_at_the_end(result.scene)


def _data(arguments: argparse.Namespace) -> None:
    from .data.layouts import read_layout

    options = dict(name_and_value(text, "--option") for text in arguments.option)
    datalist = read_layout(arguments.layout, arguments.source, **options)
    if arguments.validation or arguments.test:
        datalist = datalist.split(arguments.validation, arguments.test, arguments.seed)
    datalist.save(arguments.out)
    parts = ", ".join(
        f"{name} {len(entries)}"
        for name, entries in (
            ("training", datalist.training),
            ("validation", datalist.validation),
            ("test", datalist.test),
        )
        if entries
    )
    print(f"{arguments.out}: {len(datalist.entries)} entries of {len(datalist.patients())} patients ({parts})")


def _train(arguments: argparse.Namespace) -> None:
    if arguments.dry_run:
        _plan(arguments)
        return
    if arguments.out is None:
        raise InputError("--out is missing", "Name the folder of the run, or ask for --dry-run")
    from .training.distributed import joined
    from .training.run import run_chain
    from .transfer.chain import load_chain
    from .transfer.changes import read_change

    with joined(arguments.device) as (device, processes):
        if not processes.is_first:
            arguments.progress = "none"
        chain = load_chain(arguments.chain, dict(map(read_change, arguments.set)))
        with _progress(arguments) as progress:
            result = run_chain(
                chain,
                arguments.out,
                resume=arguments.resume,
                progress=progress,
                device=device,
                checkpoint_every_s=arguments.checkpoint_every,
                processes=processes,
            )
        if processes.is_first:
            print(f"bundle: {result.bundle}", file=_notes(arguments))


def _plan(arguments: argparse.Namespace) -> None:
    from .training.plan import plan_chain
    from .training.run_folder import load_datalists
    from .transfer.chain import load_chain
    from .transfer.changes import read_change

    chain = load_chain(arguments.chain, dict(map(read_change, arguments.set)))
    datalists = load_datalists(chain, None)
    with _progress(arguments) as progress:
        plan = plan_chain(chain, datalists, device=arguments.device, progress=progress)
    print(plan.to_text(), file=_notes(arguments))
    tell_result(arguments, plan=plan.to_dict())


def _segment(arguments: argparse.Namespace) -> int:
    with _progress(arguments) as progress:
        words, failures = segment(arguments, progress)
    for failure in failures:
        _fail(arguments, failure, 2)
    print(words, file=_notes(arguments))
    return 2 if failures else 0


def _classify(arguments: argparse.Namespace) -> int:
    with _progress(arguments) as progress:
        words, failures = classify(arguments, progress, lambda line: print(f"note: {line}", file=sys.stderr))
    for failure in failures:
        _fail(arguments, failure, 2)
    print(words, file=_notes(arguments))
    return 2 if failures else 0


def _compare(arguments: argparse.Namespace) -> None:
    with _progress(arguments) as progress:
        words = compare(arguments, progress)
    print(words, file=_notes(arguments))


def _study(arguments: argparse.Namespace) -> int:
    return run_study_command(arguments, _progress, lambda arguments, words: print(words, file=_notes(arguments)), _fail)


def _adapt(arguments: argparse.Namespace) -> None:
    run_adapt(arguments, _progress, read_volumes, lambda arguments, words: print(words, file=_notes(arguments)))


def _check(arguments: argparse.Namespace) -> int:
    from .scene.self_check import run_self_check

    with _progress(arguments) as progress:
        report = run_self_check(progress)
    if arguments.out is not None:
        arguments.out.write_text(report.text, encoding="utf-8")
    print(report.text, file=_notes(arguments))
    return 0 if report.works else 1


def _bench(arguments: argparse.Namespace) -> None:
    import subprocess

    script = Path(__file__).resolve().parents[2] / "Testing" / "benchmarks" / "run.py"
    if not script.is_file():
        raise InputError(
            "the benchmarks are part of the source code only, not of an installed XTL",
            "Install a checkout with pip install --editable '.[test]' and run xtl bench from there",
        )
    options = [*arguments.names, *(["--quick"] if arguments.quick else []), *(["--list"] if arguments.list else [])]
    options += ["--out", str(arguments.out)] if arguments.out is not None else []
    done = subprocess.run([sys.executable, str(script), *options], check=False)
    if done.returncode:  # the benchmark has said why
        raise SystemExit(done.returncode)


# --- what the commands share --------------------------------------------------------------------


class _progress:
    """The progress that ``--progress`` asks for; with ``json`` a line ``cancel`` on stdin stops the work."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._mode = arguments.progress
        self._sink = None

    def __enter__(self) -> Progress:
        if self._mode == "none":
            return Progress()
        if self._mode == "terminal":
            self._sink = TerminalSink()
            return Progress(self._sink)
        cancelled = threading.Event()
        threading.Thread(target=_wait_for_cancel, args=(cancelled,), daemon=True).start()
        return Progress(json_lines_sink(), cancelled.is_set)

    def __exit__(self, *_: object) -> None:
        if self._sink is not None:
            self._sink.close()


def _wait_for_cancel(cancelled: threading.Event) -> None:
    is_pipe = stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
    for line in sys.stdin:
        if line.strip() == "cancel":
            cancelled.set()
            return
    if is_pipe:  # its other end is closed: the parent process is gone
        cancelled.set()


def _notes(arguments: argparse.Namespace):
    """Where a closing sentence goes: not among the JSON lines."""
    return sys.stderr if arguments.progress == "json" else sys.stdout


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"xtl: error: {message}. See {self.prog} --help.\n")


def _line_about(error: Exception) -> str:
    """One line about an error that no command expected."""
    failure = explain(error)
    if failure.kind == "unexpected":
        return (
            f"unexpected {type(error).__name__}: {error}. "
            "Run again with --debug, and report it with the text of xtl check."
        )
    return failure.line


def _fail(arguments: argparse.Namespace, message: str, code: int) -> int:
    if arguments.debug and sys.exc_info()[0] is not None:
        import traceback

        traceback.print_exc()
    if arguments.progress == "json":
        import json

        print(json.dumps({"type": "error", "code": code, "message": message}), flush=True)
    print(f"xtl: error: {message}" if code != 130 else "xtl: cancelled", file=sys.stderr)
    return code


def _keep_freed_memory() -> None:
    """Start this process anew with glibc told to keep freed pages.

    Large tensors are freed and asked for at every layer; returning their pages to the system each time
    costs a good part of the time of a training step on CPU. The setting is read before Python starts,
    hence the new start, before anything heavy is imported.
    """
    if sys.platform != "linux" or any(name in os.environ for name in ALLOCATOR):
        return
    os.execve(sys.executable, [sys.executable, "-m", "XTLLib.cli", *sys.argv[1:]], {**os.environ, **ALLOCATOR})


if __name__ == "__main__":
    sys.exit(main())
