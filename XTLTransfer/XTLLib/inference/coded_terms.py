"""What a lesion is called in coded words (SNOMED CT)."""

from __future__ import annotations

from dataclasses import dataclass


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
# Where a prostate finding lies, by its zone; "" is the gland as a whole.
PROSTATE_SITES = {
    "PZ": Code("SCT", "279706003", "Peripheral zone of the prostate"),
    "TZ": Code("SCT", "399384005", "Transition zone of the prostate"),
    "AS": Code("SCT", "717025007", "Anterior fibromuscular stroma of prostate"),
    "SV": Code("SCT", "64739004", "Seminal Vesicle"),
    "": PROSTATE,
}
