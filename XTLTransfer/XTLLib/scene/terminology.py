"""Coded terms as Slicer's segments carry them."""

from __future__ import annotations

from ..inference.coded_terms import ALTERED_STRUCTURE, BRAIN, LESION, PROSTATE, Code

CONTEXT = "XTL lesion types"  # the name of Resources/Terminologies/XTL-lesions.term.json
_REGION_CONTEXT = "Anatomic codes - DICOM master list"


def terminology_entry(category: Code, kind: Code, region: Code) -> str:
    """A terminology entry as segments carry it: context, category, type, modifier, region context, region, modifier.

    The string is whole in itself: Slicer reads codes and meanings from it also where the context is not loaded.
    """
    return f"{CONTEXT}~{category}~{kind}~^^~{_REGION_CONTEXT}~{region}~^^"


MS_LESION = terminology_entry(ALTERED_STRUCTURE, LESION, BRAIN)
PROSTATE_LESION = terminology_entry(ALTERED_STRUCTURE, LESION, PROSTATE)
