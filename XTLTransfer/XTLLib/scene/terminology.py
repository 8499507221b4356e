"""What a lesion is called in coded words (SNOMED CT), for segments and their export as DICOM SEG."""

from __future__ import annotations

from dataclasses import dataclass

CONTEXT = "XTL lesion types"  # the name of Resources/Terminologies/XTL-lesions.term.json
_REGION_CONTEXT = "Anatomic codes - DICOM master list"


@dataclass(frozen=True)
class Code:
    """A coded term: coding scheme designator (SCT = SNOMED CT), value and meaning."""

    scheme: str
    value: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.scheme}^{self.value}^{self.meaning}"


ALTERED_STRUCTURE = Code("SCT", "49755003", "Morphologically Altered Structure")
LESION = Code("SCT", "52988006", "Lesion")
BRAIN = Code("SCT", "12738006", "Brain")
PROSTATE = Code("SCT", "41216001", "Prostate")


def terminology_entry(category: Code, kind: Code, region: Code) -> str:
    """A terminology entry as segments carry it: context, category, type, modifier, region context, region, modifier.

    The string is whole in itself: Slicer reads codes and meanings from it also where the context is not loaded.
    """
    return f"{CONTEXT}~{category}~{kind}~^^~{_REGION_CONTEXT}~{region}~^^"


MS_LESION = terminology_entry(ALTERED_STRUCTURE, LESION, BRAIN)
PROSTATE_LESION = terminology_entry(ALTERED_STRUCTURE, LESION, PROSTATE)
