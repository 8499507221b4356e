"""Where a volumetric network looks and pools along depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .backbones import Backbone
from .spec import ConversionRule

# Depth joins in when its spacing is less than this many times the in-plane spacing of the level.
_ANISOTROPY = 2.0
# A kernel wider than this in plane is inflated to this many slices only: a 7x7 kernel stacked 7 times
# would average 7 slices from the first layer on, which wipes small lesions out, at seven times the cost.
_LARGEST_DEPTH_KERNEL = 3
# A level with fewer slices keeps them apart: most planes of a deeper kernel would meet only the zeros of
# the padding, which weakens an inflated response at every layer.
_FEWEST_SLICES_TO_MIX = 3
_FEWEST_SLICES_TO_HALVE = 4


@dataclass(frozen=True)
class DepthPlan:
    """Depth kernels and depth strides of a converted backbone, by level (number of in-plane halvings before).

    Attributes
    ----------
    kernels : for each level, the largest kernel along depth: 1 (slices stay apart) or 3. A 2D kernel of
        size k gets min(k, this) planes; under "native" and the ACS rules k planes wherever this is 3.
    strides : for each in-plane halving, the stride along depth: 1 or 2.
    decoder_kernels : the same as ``kernels`` for a decoder's convolutions; None makes them equal.
    """

    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    decoder_kernels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.decoder_kernels is None:
            object.__setattr__(self, "decoder_kernels", self.kernels)

    @classmethod
    def from_spacing(
        cls,
        spacing_mm: tuple[float, float, float] | None,
        shape: tuple[int, int, int] | None,
        backbone: Backbone,
    ) -> DepthPlan:
        """The plan for inputs of a spacing and a shape.

        Thick slices (0.5 x 0.5 x 3 mm) are neither pooled nor mixed along depth until the in-plane spacing
        of the level has come within a factor of 2 of the slice distance; a single slice never is.

        Parameters
        ----------
        spacing_mm : (x, y, z) along (i, j, k), z being depth; None means equal.
        shape : (K, J, I) of the input; None means large.
        backbone : tells the number of halvings.
        """
        x, y, z = spacing_mm or (1.0, 1.0, 1.0)
        in_plane, slices = math.sqrt(x * y), math.inf if shape is None else shape[0]
        kernels, strides = [], []
        for level in range(backbone.halvings + 1):
            joins = slices >= _FEWEST_SLICES_TO_MIX and z < _ANISOTROPY * in_plane
            kernels.append(_LARGEST_DEPTH_KERNEL if joins else 1)
            if level == backbone.halvings:
                break
            strides.append(2 if joins and slices >= _FEWEST_SLICES_TO_HALVE else 1)
            in_plane *= 2
            z *= strides[-1]
            slices = slices if slices == math.inf else math.ceil(slices / strides[-1])
        return cls(tuple(kernels), tuple(strides))

    def for_rule(self, rule: ConversionRule) -> DepthPlan:
        """The plan under a conversion rule that restricts where depth is looked at; itself under the others.

        "slice-stack": only level 0 has a depth kernel (the first convolution's) and depth is never pooled.
        "slice-encoder": the backbone has none; the decoder mixes depth from the level where it joins in.
        A plan for a single slice, or for two, keeps slices apart under every rule.
        """
        apart, joins = (1,) * len(self.kernels), max(self.decoder_kernels + self.kernels)
        if rule == "slice-stack":
            return DepthPlan((joins, *apart[1:]), apart[1:], apart)
        if rule == "slice-encoder":
            # Without pooling the deeper levels keep their slices, so that all of them can be mixed.
            mixed = tuple(max(self.decoder_kernels[: level + 1]) for level in range(len(self.kernels)))
            return DepthPlan(apart, apart[1:], mixed)
        return self

    def depth_stride(self, halvings: int) -> int:
        """Cumulative stride along depth after a number of in-plane halvings."""
        return math.prod(self.strides[:halvings])
