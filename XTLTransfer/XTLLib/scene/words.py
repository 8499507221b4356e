"""Sentences for the user, in Slicer's language where there is Slicer around."""

from __future__ import annotations


def tr(text: str) -> str:
    """Slicer's translation of a text; outside of Slicer, as it is."""
    try:
        from slicer.i18n import tr as translate
    except ImportError:
        return text
    return translate(text)
