"""The two ways in which work ends early: bad input, and a user's cancel."""

from __future__ import annotations


class XTLError(Exception):
    """Something a user can put right: says what is wrong, with which file or parameter, and the remedy.

    ``str(error)`` is one line fit for a dialog or for ``xtl: error: ...`` on a terminal.

    Parameters
    ----------
    what : what is wrong, naming the file or the parameter, without a full stop at the end.
    remedy : what the user can do about it, without a full stop at the end.

    Attributes
    ----------
    code : of an error in another process (inference.worker), or "died" where that process ended; "" for others.
    details : lines for who wants to know more; they may name files.
    anonymous : where it happened in another process, in lines without names of files, nodes or patients
        (failures.anonymous_lines).
    """

    code: str = ""
    details: tuple[str, ...] = ()
    anonymous: tuple[str, ...] = ()

    def __init__(self, what: str, remedy: str) -> None:
        self.what = " ".join(str(what).split())
        self.remedy = " ".join(str(remedy).split())
        super().__init__(f"{self.what}. {self.remedy}.")


class InputError(XTLError):
    """A file, a parameter or a configuration that cannot be used (exit code 2 on the command line)."""


class MissingPackageError(XTLError):
    """A Python package that the requested work needs is not installed."""

    @classmethod
    def of(cls, what: str, package: str, extra: str) -> MissingPackageError:
        """The error of ``what`` (a noun, plural) that needs ``package``, which XTL's ``extra`` installs with pip."""
        return cls(
            f"{what} need the Python package {package}",
            f'Install it with: python -m pip install {package} (pip install ".[{extra}]" has it; '
            f'in Slicer: slicer.util.pip_install("{package}"))',
        )


class Cancelled(Exception):
    """The user asked for the running work to stop; nothing is wrong."""
