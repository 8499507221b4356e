"""How a failure reaches the user of a panel: what happened, why it may be, what to do, and the details folded away."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import Cancelled, XTLError
from ..failures import anonymous_lines, explain

_LOG = logging.getLogger("XTL")
_last: list[str] = []


def show_failure(title: str, error: BaseException, details: Sequence[str] = ()) -> None:
    """Show a failure in a message box; the log gets where it happened, without names of files, nodes or patients.

    Parameters
    ----------
    title : what did not come about, a sentence of our own: Qt looks for mark-up in the first line only.
    details : more lines to be folded away, of a worker for example.
    """
    import slicer
    from slicer.i18n import tr as _

    failure = explain(error)
    folded = [*details, *getattr(error, "details", ())]
    if not isinstance(error, XTLError):
        folded += "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    lines = anonymous_lines(error)
    _last[:] = [f"{time.strftime('%Y-%m-%d %H:%M:%S')} ({failure.kind})", *lines]
    _LOG.error("%s (%s)\n%s", title, failure.kind, "\n".join(lines))
    why = _("Why: {reason}.").format(reason=failure.why)
    remedy = _("What to do: {remedy}.").format(remedy=failure.remedy)
    text = f"{title}\n\n{failure.what}.\n\n{why}\n\n{remedy}"
    slicer.util.errorDisplay(text, detailedText="\n".join(folded or lines))


def last_failure() -> tuple[str, ...]:
    """The failure that was shown last in this session, in lines that may be told to the public; none: empty."""
    return tuple(_last)


@contextmanager
def failures_shown(title: str) -> Iterator[None]:
    """Show whatever goes wrong in the block, and go on after it; a cancel needs no message."""
    try:
        yield
    except Cancelled:
        pass
    except Exception as error:
        show_failure(title, error)


def shown(action: Callable[[], Any]) -> Callable[..., None]:
    """A slot of a button that does what ``action`` does, and shows what goes wrong."""

    def slot(checked: bool = False) -> None:
        from slicer.i18n import tr as _

        with failures_shown(_("That did not work.")):
            action()

    return slot
