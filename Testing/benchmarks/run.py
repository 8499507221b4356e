"""Run benchmarks by name, print one table, write one JSON file.

python Testing/benchmarks/run.py [NAME ...] [--quick] [--out FILE.json] [--list]

The same as ``xtl bench``. The options of a single benchmark are those of its own file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from registry import BENCHMARKS
from results import table_of, write_results


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all ({', '.join(BENCHMARKS)})")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: a smoke test, not a figure")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--list", action="store_true", help="say what there is, measure nothing")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        print(f"xtl: error: there is no benchmark {unknown[0]}. Choose from {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    chosen = [BENCHMARKS[name] for name in arguments.names or BENCHMARKS]
    if arguments.list:
        for benchmark in chosen:
            print(f"{benchmark.name}: {benchmark.what} (target: {benchmark.target})")
        return 0
    results = []
    for benchmark in chosen:
        print(f"{benchmark.name}: {benchmark.what} ...", file=sys.stderr)
        results.append(benchmark.measure(["--quick"] if arguments.quick else []))
        if arguments.out is not None:  # after each: a long run that is stopped has not been for nothing
            write_results(results, arguments.out)
    print(table_of([row for result in results for row in result.rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
