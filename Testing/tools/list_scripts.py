"""Keep the file lists of the modules' CMakeLists.txt equal to the files.

python Testing/tools/list_scripts.py            says what differs, exit code 1 when something does
python Testing/tools/list_scripts.py --write    puts it right
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
MODULES = ("XTLTransfer", "XTLSegment", "XTLClassify")
SCRIPTS, RESOURCES = "MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"


def files_of(module: str) -> dict[str, list[str]]:
    """The files of a module by the list they belong to, relative to the module's folder."""
    folder = PROJECT / module
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
    )
    files = [file for file in files if file != "CMakeLists.txt" and not file.endswith(".pyc")]
    own = f"{module}.py"  # first, as a reader expects it
    scripts = [file for file in files if file.endswith(".py") and not file.startswith("Resources/")]
    return {
        SCRIPTS: sorted(scripts, key=lambda file: (file != own, file)),
        RESOURCES: [file for file in files if file not in scripts],
    }


def listed_in(module: str) -> dict[str, list[str]]:
    """The files that a module's CMakeLists.txt names."""
    text = (PROJECT / module / "CMakeLists.txt").read_text(encoding="utf-8")
    lists = {name: _pattern(name).search(text).group(1).split() for name in (SCRIPTS, RESOURCES)}
    return {name: [file.replace("${MODULE_NAME}", module) for file in files] for name, files in lists.items()}


def write(module: str) -> None:
    """Put the module's files into its CMakeLists.txt."""
    path = PROJECT / module / "CMakeLists.txt"
    text = path.read_text(encoding="utf-8")
    for name, files in files_of(module).items():
        lines = "".join(f"  {file}\n" for file in files)
        text = _pattern(name).sub(lambda _, name=name, lines=lines: f"set({name}\n{lines}  )", text)
    path.write_text(text, encoding="utf-8")


def _pattern(name: str) -> re.Pattern:
    return re.compile(rf"set\({name}\n(.*?) *\)", re.DOTALL)


def main() -> int:
    wrong = 0
    for module in MODULES:
        if "--write" in sys.argv[1:]:
            write(module)
        for name, files in files_of(module).items():
            listed = listed_in(module)[name]
            for file in sorted(set(files) ^ set(listed)):
                wrong += 1
                print(f"{module}/{file}: {'not listed' if file in files else 'listed, but there is no such file'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
