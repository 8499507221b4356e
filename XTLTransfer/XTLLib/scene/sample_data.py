"""Images to try the modules with: phantoms made on the spot, and one public case, in Slicer's Sample Data module.

The phantoms need no network: a tutorial works offline. They are drawn by data.phantoms from a seed, so that there is
no file to download and no checksum to compare.

Of public images, only a case whose address and SHA-256 are stated by its publisher is offered: ProstateX-0000 (T2W
and ADC) as the extension MONAI Auto3DSeg publishes it (read in MONAIAuto3DSeg.py of 2025-12-09; Slicer refuses a file
that differs). No high-b-value image and no findings belong to it. For multiple sclerosis no such file is known: the
public collections are archives of many patients, behind a registration, or without a stated checksum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..data.case import Case

CATEGORY = "XTL"
_PICTURES = Path(__file__).resolve().parents[2] / "Resources" / "SampleData"
_BRAIN_SEED, _PROSTATE_SEED = 7, 12  # chosen for their lesions: several sizes, and findings of both outcomes
_PROSTATEX = "https://github.com/lassoan/SlicerMONAIAuto3DSeg/releases/download/TestingData/"


@dataclass(frozen=True)
class Phantom:
    """Generated images of one patient.

    Attributes
    ----------
    title : in the Sample Data module. picture : file name of its thumbnail. make : draws it.
    """

    title: str
    picture: str
    make: Callable[[], Case]


def _brain() -> Case:
    from ..data.phantoms.brain import brain_case

    return brain_case(_BRAIN_SEED, "XTL brain phantom", "anisotropic")


def _prostate() -> Case:
    from ..data.phantoms.prostate import prostate_case

    return prostate_case(_PROSTATE_SEED, "XTL prostate phantom")


PHANTOMS = {
    "brain": Phantom("XTL brain phantom with MS lesions", "XTLBrainPhantom.png", _brain),
    "prostate": Phantom("XTL prostate phantom with findings", "XTLProstatePhantom.png", _prostate),
}


@dataclass(frozen=True)
class SampleNodes:
    """What was put into the scene.

    Attributes
    ----------
    channels : channel -> vtkMRMLScalarVolumeNode.
    truth : vtkMRMLLabelMapVolumeNode of the lesions; None for the prostate.
    findings : vtkMRMLMarkupsFiducialNode; None for the brain.
    outcomes : finding -> clinically significant or not; empty for the brain.
    """

    channels: dict[str, Any]
    truth: Any = None
    findings: Any = None
    outcomes: dict[str, bool] = field(default_factory=dict)


def load(name: str, scene: Any) -> SampleNodes:
    """Draw a phantom and put it into a scene.

    Parameters
    ----------
    name : "brain" (FLAIR, T1 and T2 with MS lesions, and the lesions as a label map "reference mask") or "prostate"
        (T2W, ADC and HBV, and the findings as points with their zones).

    Raises InputError for another name.
    """
    from .change import one_change
    from .findings import findings_to_node
    from .hierarchy import place_beside
    from .inputs import add_case

    if name not in PHANTOMS:
        raise InputError(f"there is no sample {name!r}", f"Choose one of {', '.join(PHANTOMS)}")
    case = PHANTOMS[name].make()
    with one_change(scene):
        nodes = add_case(case, scene, study="phantom", with_mask=True)
        findings = None
        if case.findings:
            findings = findings_to_node(case.findings, "findings", scene)
            place_beside(scene, [findings], nodes.reference)
    return SampleNodes(nodes.channels, nodes.mask, findings, {f.identifier: f.significant for f in case.findings})


def register_sample_data() -> None:
    """Offer the samples in Slicer's Sample Data module; for ``startupCompleted()``, any number of times."""
    try:
        import SampleData
    except ImportError:  # a Slicer that was built without it
        return
    logic = SampleData.SampleDataLogic
    known = {source.sampleName for source in logic.sampleDataSourcesByCategory(CATEGORY)}
    for name, phantom in PHANTOMS.items():
        if phantom.title not in known:
            logic.registerCustomSampleDataSource(
                category=CATEGORY,
                sampleName=phantom.title,
                uris=[],
                fileNames=[],
                nodeNames=[],
                customDownloader=partial(_load_clicked, name),
                thumbnailFileName=str(_PICTURES / phantom.picture),
            )
    title = "ProstateX-0000 (T2W, ADC)"
    if title not in known:
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=title,
            uris=[_PROSTATEX + "ProstateX-0000-t2-tse-tra.nrrd", _PROSTATEX + "ProstateX-0000-adc.nrrd"],
            fileNames=["ProstateX-0000-t2-tse-tra.nrrd", "ProstateX-0000-adc.nrrd"],
            nodeNames=["ProstateX-0000 T2W", "ProstateX-0000 ADC"],
            checksums=[
                "SHA256:3940564b147b7bcda52b6b305be3d39f7c9fb901b81caa9863c72ef6ff113dfb",
                "SHA256:62a00ffa4fab7a3d53e8cc17409cb0a6c7e6ebdaea694ecab78c7d8c55b6d4d3",
            ],
            thumbnailFileName=str(_PICTURES / "XTLProstateX.png"),
        )


def _load_clicked(name: str, source: Any = None) -> list[Any]:
    """Called by the Sample Data module with the source that was clicked; the nodes."""
    import slicer
    from slicer.i18n import tr as _

    from .error_display import failures_shown

    with failures_shown(_("The phantom was not made.")):
        loaded = load(name, slicer.mrmlScene)
        return [*loaded.channels.values(), *(node for node in (loaded.truth, loaded.findings) if node is not None)]
    return []
