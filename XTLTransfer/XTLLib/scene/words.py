"""Sentences for the user, in Slicer's language where there is Slicer around."""

from __future__ import annotations

from ..failures import sentence


def tr(text: str) -> str:
    """Slicer's translation of a text; outside of Slicer, as it is."""
    try:
        from slicer.i18n import tr as translate
    except ImportError:
        return text
    return translate(text)


def shortened(text: str, longest: int = 120) -> str:
    """The text, of a long one its end: that of a path tells more than its beginning."""
    return text if len(text) <= longest else f"…{text[1 - longest :]}"


def plain(text: str) -> str:
    """For a tool tip, a message box or a label of rich text, which would take a name such as ``<b>`` for mark-up."""
    return text.replace("<", "‹")


def in_sentences(*texts: str) -> str:
    """Texts in a row, each with a capital letter and a full stop; empty ones are left out."""
    return " ".join(f"{sentence(text)}." for text in texts if text)
