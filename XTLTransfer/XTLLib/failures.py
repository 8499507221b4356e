"""What is said of any failure, wherever it is shown: what happened, why it may be, and what to do."""

from __future__ import annotations

import ast
import errno
import os
import sys
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .errors import Cancelled, InputError, MissingPackageError, XTLError

_LIBRARY = Path(__file__).resolve().parent
_VALUE = "…"  # stands for what an error says of a file, a node or a number
_MODULES = ("XTLTransfer.py", "XTLSegment.py", "XTLClassify.py")
_FRAMES = 12
# With what our own messages begin. Whatever else one begins with is a name, and is left as its owner wrote it.
_FIRST_WORDS = """
a an and at between both channel could fewer finding for from in installed it its late mammograms network networks no
none not nothing one only packages painted paired patches radiomics scores several some stage studies that the there
these this threshold to too trainings transferability two unknown version weights what whole with without
"""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Kind -> why it may be, and what to do where the error itself does not say.
_KINDS = {
    "missing package": (
        "A Python package that this needs is not installed, is too old, or was installed only in part",
        "Try again to install it, or reinstall the package that is named in the details",
    ),
    "memory": (
        "The images and the network need more memory than is free now, on this computer or its graphics card",
        "Close other programs, or choose the processor instead of the graphics card, and try again",
    ),
    "disk full": (
        "Results and temporary files need room that the disk, or your share of it, does not have",
        "Make room, or choose a folder on another disk, and try again",
    ),
    "no permission": (
        "This account may not read or write a file or folder that is needed, or another program holds it",
        "Choose a folder of your own, or close the program that uses the file, and try again",
    ),
    "worker died": (
        "The process that computes was ended from outside, most often by the system because memory ran out",
        "Close other programs and try again",
    ),
    "input": (
        "A file, an image or a setting is not as this work needs it; nothing was changed",
        "Put it right and try again",
    ),
    "cancelled": ("You stopped it; nothing is wrong", "Start it again when you like"),
    "failed": ("Something that this work relies on did not do its part", "Try again"),
    "unexpected": (
        "This is most likely a mistake in the program and not one of yours",
        "Try again; if it happens again, report it with the text of the self-check",
    ),
}
KINDS = tuple(_KINDS)
# XTLError.code of an error in another process -> kind.
_ELSEWHERE = {"memory": "memory", "disk": "disk full", "permission": "no permission", "died": "worker died"}
_ELSEWHERE |= {"internal": "unexpected"}


@dataclass(frozen=True)
class Failure:
    """A failure in words; sentences without a full stop at the end.

    Attributes
    ----------
    kind : one of KINDS. what : what happened. why : why it may be. remedy : what to do.
    """

    kind: str
    what: str
    why: str
    remedy: str

    @property
    def line(self) -> str:
        """One line for a terminal."""
        return f"{self.what}. {self.remedy}."

    @property
    def paragraphs(self) -> str:
        """Three paragraphs for a dialog."""
        return f"{self.what}.\n\nWhy: {self.why}.\n\nWhat to do: {self.remedy}."


def explain(error: BaseException) -> Failure:
    """Put an error into words. Those of an XTLError are its own; of others only the kind is told apart."""
    kind = _kind_of(error)
    why, remedy = _KINDS[kind]
    if isinstance(error, XTLError):
        return Failure(kind, sentence(error.what), why, sentence(error.remedy))
    return Failure(kind, _what_of(error, kind), why, remedy)


def _kind_of(error: BaseException) -> str:
    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        return "cancelled"
    if isinstance(error, (MissingPackageError, ImportError)):
        return "missing package"
    # torch.OutOfMemoryError is known by its name: torch need not be there.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory"
    cause = error.__cause__ if isinstance(error, XTLError) else error
    if isinstance(cause, OSError) and cause.errno in _FULL:
        return "disk full"
    if isinstance(cause, PermissionError):
        return "no permission"
    if isinstance(error, InputError):
        return "input"
    if isinstance(error, XTLError):
        return _ELSEWHERE.get(error.code, "failed")
    return "unexpected"


def _what_of(error: BaseException, kind: str) -> str:
    if kind == "cancelled":
        return "It was cancelled"
    if kind == "missing package":
        return f"The Python package {getattr(error, 'name', None) or 'that is needed'} cannot be imported"
    if kind == "memory":
        return "The memory does not suffice"
    if kind == "disk full":
        return "The disk is full"
    if kind == "no permission":
        return f"{getattr(error, 'filename', None) or 'A file'} may not be used"
    return f"An unexpected {type(error).__name__} occurred"


def sentence(text: str) -> str:
    """With a capital letter, unless a path or a name begins it, and without a full stop."""
    text = text.strip().rstrip(".")
    return text[:1].upper() + text[1:] if text.partition(" ")[0].rstrip(",:") in _FIRST_WORDS.split() else text


def anonymous_lines(error: BaseException) -> tuple[str, ...]:
    """What may be told to the public about an error: its type, its fixed words, and where it happened.

    What a message says of files, nodes and patients is replaced by "…": the words are taken from the ``raise``
    statement in the source. Of an error from elsewhere the type alone is told, and of the system's its meaning.
    """
    lines = []
    while error is not None and len(lines) < 3 * _FRAMES:
        frames = traceback.extract_tb(error.__traceback__)
        lines.append(": ".join(text for text in (type(error).__name__, _fixed_words(error, frames)) if text))
        lines += [f"  at {_where(frame)}" for frame in frames[-_FRAMES:]]
        lines += [f"  there: {line}" for line in getattr(error, "anonymous", ())]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return tuple(lines)


def _fixed_words(error: BaseException, frames: traceback.StackSummary) -> str:
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else ""  # ``strerror`` may be anybody's words, with a path
    if not isinstance(error, XTLError) or not frames or not _is_ours(frames[-1].filename):
        return ""
    return _raised_words(frames[-1].filename, frames[-1].lineno)


@lru_cache(maxsize=32)
def _raised_words(file: str, line: int) -> str:
    """The texts of the ``raise`` statement around a line of a source file, with "…" for what was filled in."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ""
    around = [node for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.lineno <= line <= node.end_lineno]
    if not around or not isinstance(around[-1].exc, ast.Call):
        return ""
    return ". ".join(_fixed_part(argument) for argument in around[-1].exc.args)


def _fixed_part(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_fixed_part(part) for part in node.values)
    return _VALUE


def _is_ours(file: str) -> bool:
    return _LIBRARY in Path(file).parents


def _where(frame: traceback.FrameSummary) -> str:
    """A place in a source file from its package on; of a user's own script, whose name may say anything, nothing."""
    path = Path(frame.filename)
    parts = path.parts
    packages = [parts.index(root) + 1 for root in ("site-packages", "dist-packages") if root in parts]
    if _is_ours(frame.filename):
        name = path.relative_to(_LIBRARY.parent).as_posix()
    elif packages:
        name = "/".join(parts[packages[0] :])
    elif _is_program(path) or frame.filename.startswith("<"):
        name = path.name
    else:
        return _VALUE
    return f"{name}:{frame.lineno} in {frame.name}"


def _is_program(path: Path) -> bool:
    """Whether a file is one of Python's, of Slicer's or of our modules."""
    roots = {Path(root).resolve() for root in (sys.prefix, sys.base_prefix)}
    is_module = path.name in _MODULES or "qt-scripted-modules" in path.parts or "slicer" in path.parts
    return is_module or not roots.isdisjoint(path.resolve().parents)
