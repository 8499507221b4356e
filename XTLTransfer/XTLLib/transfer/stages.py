"""The stages of a chain, as a chain file describes them. Every default is a project choice.

Shapes are counted as arrays are, (K, J, I): slices, rows, columns on the working grid, whose axes run
closest to S, P, L. Spacings and extents are (x, y, z) in mm along L, P, S.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from .training import MammogramTraining, PatchTraining, StepTraining, Training, WindowTraining
from .yaml_model import StrictModel

Shape = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Millimetres = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]

RANDOM, FROZEN_RANDOM, IMAGENET = "random", "frozen-random", "imagenet"


def _require_unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"a channel is named twice in {', '.join(names)}")
    return names


Channels = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_require_unique)]


def _refuse_mixup(training: Training) -> Training:
    if training.mixup is not None:
        raise ValueError("mixup blends the classes of whole images, which this stage has not; set it to null")
    return training


class Initialisation(StrictModel):
    """Where the backbone's weights come from.

    Attributes
    ----------
    weights : path or https address of a state dict, ``imagenet`` (downloaded once, checked by SHA-256),
        ``random``, or ``frozen-random``: random weights that no stage trains, the control of Karimi et al.
        2021 (PMC8164174).
    sha256 : expected hash of the file, or its beginning; an address needs it.
    layout : how the file names its tensors: ``torchvision``, or ``medicalnet`` for a 3D-native ResNet (Chen et
        al. 2019, arXiv 1904.00625), whose chain has no conversion and no 2D stage.
    keys : for the checkpoint of somebody else: beginning of a name in the file -> what takes its place.
    minimum_match : share of the backbone's tensors that the file has to hold; the rest starts at random.
    licence : of the weights, for the record.
    """

    kind: Literal["initialisation"]
    weights: str
    sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{8,64}$")
    layout: Literal["torchvision", "medicalnet"] = "torchvision"
    keys: dict[str, str] = {}
    minimum_match: float = Field(1.0, gt=0, le=1)
    licence: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Initialisation:
        if self.is_address and (self.sha256 is None or len(self.sha256) < 64):
            raise ValueError("weights from an address need their whole SHA-256; add sha256 with 64 digits")
        if self.weights in (RANDOM, FROZEN_RANDOM, IMAGENET) and (self.keys or self.layout != "torchvision"):
            raise ValueError(f"weights {self.weights} come without a file; take out keys and layout")
        return self

    @property
    def is_address(self) -> bool:
        return self.weights.startswith(("https://", "http://"))

    @property
    def is_learned(self) -> bool:
        """Whether the weights were learned, rather than drawn at random."""
        return self.weights not in (RANDOM, FROZEN_RANDOM)


class _Stage2D(StrictModel):
    """A stage on images: the 2D backbone."""

    @property
    def is_volumetric(self) -> bool:
        return False


class _Volumetric(StrictModel):
    """A stage on volumes: the converted backbone."""

    @property
    def is_volumetric(self) -> bool:
        return True


class _Region(_Stage2D):
    """Mammograms, whole or in regions.

    Attributes
    ----------
    datalist : path of a datalist of mammograms.
    image_size : pixels to which the longer side of the breast is brought.
    region : side in pixels of the square regions that the network sees: around marked abnormalities, and
        in normal breasts. null shows whole breasts.
    """

    kind: Literal["intermediate"]
    datalist: str
    image_size: int = Field(256, ge=32, le=4096, multiple_of=32)
    region: int | None = Field(None, ge=32, multiple_of=32)
    dropout: float = Field(0.2, ge=0, lt=1)
    training: MammogramTraining = MammogramTraining()

    @field_validator("region")
    @classmethod
    def _region_fits(cls, region: int | None, info: ValidationInfo) -> int | None:
        size = info.data.get("image_size")
        if region is not None and size is not None and region > size:
            raise ValueError(f"a region of {region} pixels in an image of {size}")
        return region


class MammogramClassification(_Region):
    """The 2D backbone with a classification head; what the classes are (cancer, abnormal, density, view and
    laterality) the datalist says. With ``region``: abnormal against normal regions.
    """

    task: Literal["mammogram-classification"]


class MammogramSegmentation(_Region):
    """The 2D backbone with a decoder that marks abnormalities on mammograms."""

    task: Literal["mammogram-segmentation"]
    training: Annotated[MammogramTraining, AfterValidator(_refuse_mixup)] = MammogramTraining()


class SelfSupervised(StrictModel):
    """A stage without labels.

    Attributes
    ----------
    datalist : mammograms or volumes; labels that it may have are not looked at.
    method : ``masked``: hidden blocks of the image are reconstructed (Pathak et al. 2016, arXiv 1604.07379; for
        medical images Zhou et al. 2021, "Models Genesis"); ``contrastive``: two views of an image are told
        from other images (SimCLR, Chen et al. 2020, arXiv 2002.05709).
    images : ``mammograms`` and ``slices`` of volumes are 2D stages, ``volumes`` is a volumetric one.
    channels : of volumes, in the order of the network's input; of slices, those that are drawn from, one at a
        time. Not for mammograms. Empty: all of the datalist.
    image_size : mammograms: pixels of the longer side; slices: side of the square that is cut out.
    window : voxels (K, J, I) of the windows of ``volumes``.
    spacing_mm : working spacing of slices and volumes; null keeps that of the images.
    mask_share : share of the image that ``masked`` hides. mask_size : side of a hidden block, pixels or voxels.
    temperature : of ``contrastive``.
    """

    kind: Literal["intermediate"]
    task: Literal["self-supervised"]
    datalist: str
    method: Literal["masked", "contrastive"]
    images: Literal["mammograms", "slices", "volumes"]
    channels: Annotated[tuple[str, ...], AfterValidator(_require_unique)] = ()
    image_size: int = Field(128, ge=32, le=4096, multiple_of=32)
    window: Shape = (48, 48, 48)
    spacing_mm: Millimetres | None = None
    mask_share: float = Field(0.5, gt=0, lt=1)
    mask_size: int = Field(16, ge=2)
    temperature: float = Field(0.2, gt=0)
    training: Annotated[StepTraining, AfterValidator(_refuse_mixup)] = StepTraining()

    @model_validator(mode="after")
    def _fits_together(self) -> SelfSupervised:
        if self.method == "contrastive" and self.training.batch_size < 2:
            raise ValueError("a contrastive stage tells images of a batch from each other; batch_size is at least 2")
        if self.images == "mammograms" and self.channels:
            raise ValueError("mammograms have no channels; take out channels")
        return self

    @property
    def is_volumetric(self) -> bool:
        return self.images == "volumes"


class _Segmentation(_Volumetric):
    """A stage that learns to segment lesions in volumes.

    Attributes
    ----------
    channels : the network's input channels in order.
    spacing_mm : working spacing along L, P, S; null keeps that of the images.
    window : voxels (K, J, I) of a training window, and of inference.
    decoder : ``new``, or ``carried``: the decoder goes on from that of the segmentation stage before.
    bias_correction : N4 on every channel before normalisation, here and wherever the bundle is used.
    """

    task: Literal["segmentation"]
    datalist: str
    channels: Channels
    spacing_mm: Millimetres | None = None
    window: Shape = (48, 48, 48)
    decoder: Literal["new", "carried"] = "new"
    bias_correction: bool = False
    training: Annotated[WindowTraining, AfterValidator(_refuse_mixup)] = WindowTraining()

    @model_validator(mode="after")
    def _has_channels_to_drop(self) -> _Segmentation:
        if self.training.channel_dropout and len(self.channels) < 2:
            raise ValueError("channel_dropout leaves out channels other than the reference; there is only one channel")
        return self


class IntermediateSegmentation(_Segmentation):
    """A segmentation on the way to the target, whose backbone travels on."""

    kind: Literal["intermediate"]


class SegmentationTarget(_Segmentation):
    """The target stage that segments lesions.

    Attributes
    ----------
    threshold : probability from which a voxel is lesion; null chooses it on validation patients, and is 0.5
        where there are none.
    minimum_volume_mm3 : smaller lesions are left out of results.
    """

    kind: Literal["target"]
    threshold: float | None = Field(None, gt=0, lt=1)
    minimum_volume_mm3: float = Field(3.0, ge=0)


class Patch(StrictModel):
    """The box of every channel around a finding.

    Attributes
    ----------
    shape : voxels (K, J, I), the same for every channel.
    size_mm : channel -> extents (x, y, z) along L, P, S.
    intensity : ``rank`` (share of the volume's voxels up to this value) or ``robust`` (foreground z-score).
    """

    shape: Shape = (1, 32, 32)
    size_mm: dict[str, Millimetres] = {}
    intensity: Literal["rank", "robust"] = "rank"


class _Classification(_Volumetric):
    """A stage that learns to rate prostate findings from patches.

    Attributes
    ----------
    channels : the network's input channels in order.
    patch : the box around a finding; channels it does not name keep the default extents.
    """

    task: Literal["classification"]
    datalist: str
    channels: Channels
    patch: Patch = Patch()
    dropout: float = Field(0.2, ge=0, lt=1)
    training: PatchTraining = PatchTraining()


class IntermediateClassification(_Classification):
    """A classification of findings on the way to the target, whose backbone travels on."""

    kind: Literal["intermediate"]


class ClassificationTarget(_Classification):
    """The target stage that rates findings.

    Attributes
    ----------
    fusion : ``early``: one backbone sees all channels; ``late``: one backbone for each group of channels that show
        the same extent, with weights of its own, and their features side by side.
    zones : whether the network is told the zone of a finding, too; it learns to do without.
    folds : number of networks, each trained without one fold of the training patients; together they are the
        bundle, and what each says of its own fold are the out-of-fold scores. null trains one network.
    calibration : the map from scores to probabilities, fitted on out-of-fold scores, or on validation findings
        where there are no folds; ``none`` keeps the scores. Operating points are found in either case.
    """

    kind: Literal["target"]
    fusion: Literal["early", "late"] = "early"
    zones: bool = False
    folds: int | None = Field(None, ge=2, le=20)
    calibration: Literal["temperature", "isotonic", "none"] = "temperature"

    @model_validator(mode="after")
    def _fits_together(self) -> ClassificationTarget:
        if self.zones and self.training.mixup is not None:
            raise ValueError(
                "mixup blends findings, whose zones cannot be blended; set zones to false or mixup to null"
            )
        if self.fusion == "late" and len(self.channels) < 2:
            raise ValueError("late fusion joins groups of channels; there is only one channel")
        return self


IntermediateStage = (
    MammogramClassification
    | MammogramSegmentation
    | SelfSupervised
    | IntermediateSegmentation
    | IntermediateClassification
)
TargetStage = SegmentationTarget | ClassificationTarget
TrainedStage = IntermediateStage | TargetStage
Intermediate = Annotated[IntermediateStage, Field(discriminator="task")]
Target = Annotated[TargetStage, Field(discriminator="task")]
Stage = Annotated[Initialisation | Intermediate | Target, Field(discriminator="kind")]
