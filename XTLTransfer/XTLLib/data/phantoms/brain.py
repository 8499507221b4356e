"""Brain MR phantoms: FLAIR, T1 and T2 of a head with white-matter lesions.

The head is somewhat smaller than an adult's so that 2 mm voxels stay few. Lesions lie in white
matter only, beside the ventricles and deep in it; on FLAIR, choroid plexus, patches of cortex, caps
of the ventricles and scalp are bright too, so that a threshold alone does not find the lesions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..case import Case
from ..geometry import Grid
from ..volume import Volume
from .fields import SmoothField, box_grid, ellipsoid_distance, inside, paint, points_of, rician, rotation_from_degrees

CHANNELS = ("FLAIR", "T1", "T2")
VARIANTS = ("isotropic", "oblique", "anisotropic", "mixed grids")

# Relative signal on FLAIR, T1, T2.
_SIGNAL = {
    "soft tissue": (0.40, 0.50, 0.28),
    "scalp": (0.62, 1.05, 0.60),
    "skull": (0.07, 0.10, 0.07),
    "csf": (0.14, 0.22, 1.15),
    "grey": (0.69, 0.62, 0.62),
    "white": (0.55, 0.90, 0.45),
    "deep grey": (0.63, 0.70, 0.52),
    "choroid": (0.92, 0.40, 1.06),
    "cap": (0.74, 0.84, 0.52),
    "bright cortex": (0.88, 0.62, 0.62),
    "lesion": (1.02, 0.58, 0.88),
}
# Ellipsoids: centre and semi-axes in RAS mm.
_HEAD = ((0.0, 0.0, -14.0), (68.0, 82.0, 82.0))
_CEREBRUM = ((0.0, 0.0, 6.0), (56.0, 69.0, 50.0))
_TEMPORAL = ((36.0, 8.0, -22.0), (19.0, 34.0, 17.0))
_CEREBELLUM = ((0.0, -36.0, -32.0), (42.0, 27.0, 20.0))
_BRAINSTEM = ((0.0, -14.0, -46.0), (11.0, 12.0, 38.0))
_CEREBRUM_BASE_MM = -18.0
_CORTEX_MM = 3.0
_SULCUS_DEPTH_MM = 15.0
_FIELD_HALF_MM = 92.0


@dataclass(frozen=True)
class TrueLesion:
    """A lesion as it was put in: an ellipsoid with a rough surface.

    Attributes
    ----------
    position_ras : centre, mm.
    semi_axes_mm : three semi-axes.
    rotation : (3, 3), columns are the directions of the semi-axes in RAS.
    brightness : 0.75 to 1, how far its signal goes from white matter to that of a full lesion.
    """

    position_ras: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    rotation: np.ndarray
    brightness: float


@dataclass(frozen=True)
class _Depths:
    """Signed distances (mm) at points: depth below the pia, distances from ventricles and deep grey (inside < 0)."""

    brain: np.ndarray
    pia: np.ndarray
    ventricles: np.ndarray
    deep_grey: np.ndarray


class BrainPhantom:
    """The anatomy of one generated patient, to be sampled on any grid.

    Attributes
    ----------
    lesions : the lesions that were put in (parts outside white matter do not show).
    """

    def __init__(self, seed: int):
        rng = np.random.default_rng([7, seed])
        self._rng = rng
        self._size = rng.uniform(0.95, 1.05, 3).astype(np.float32)
        self._ventricle_width = rng.uniform(0.8, 1.35)
        self._sulcus_width = rng.uniform(0.6, 1.4)
        self._folds = SmoothField(rng, 4.6, _FIELD_HALF_MM, band_pass=True)
        self._rough = SmoothField(rng, 5.0, _FIELD_HALF_MM)
        self._patches = SmoothField(rng, 9.0, _FIELD_HALF_MM)
        self._tissue_signal = {
            name: tuple(v * rng.uniform(0.95, 1.05) for v in values) for name, values in _SIGNAL.items()
        }
        self.lesions = tuple(self._place_lesions(int(rng.integers(11, 20))))

    def truth(self, grid: Grid) -> np.ndarray:
        """Lesion mask on a grid: bool (K, J, I), voxels at least half lesion."""
        points = points_of(grid)
        head = self._head_distance(points) < 0
        mask = np.zeros(grid.shape, dtype=bool)
        place = points[:, head]
        mask[head] = self._lesion_fraction(place, self._depths(place), 1.0)[0] > 0.5
        return mask

    def images(self, channels: tuple[str, ...], grid: Grid, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Channels on one grid as a scanner would give them, with bias field and noise: name -> uint16 (K, J, I)."""
        points = points_of(grid)
        edge_mm = float(np.mean(grid.spacing_mm))
        head = self._head_distance(points) < edge_mm
        place = points[:, head]
        layers = self._layers(place, edge_mm)
        texture = 1 + 0.025 * self._rough(place)
        images = {}
        for name in channels:
            signal = np.zeros(grid.shape, dtype=np.float32)
            signal[head] = self._signal(name, layers, place, rng) * texture
            noisy = rician(signal, rng.uniform(0.018, 0.032), rng)
            images[name] = np.round(rng.uniform(500, 1200) * noisy).astype(np.uint16)
        return images

    # -- anatomy -------------------------------------------------------------------------------

    def _head_distance(self, points: np.ndarray) -> np.ndarray:
        return ellipsoid_distance(self._scaled(points), *_HEAD)

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        return points / self._size.reshape(3, *[1] * (points.ndim - 1))

    def _depths(self, points: np.ndarray) -> _Depths:
        scaled = self._scaled(points)
        mirrored = _mirrored(scaled)
        cerebrum = np.maximum(ellipsoid_distance(scaled, *_CEREBRUM), _CEREBRUM_BASE_MM - scaled[2])
        cerebrum = np.minimum(cerebrum, ellipsoid_distance(mirrored, *_TEMPORAL))
        hindbrain = np.minimum(ellipsoid_distance(scaled, *_CEREBELLUM), ellipsoid_distance(scaled, *_BRAINSTEM))

        sulcus = np.hypot(self._folds.distance_to_zero_mm(points), np.maximum(-cerebrum - _SULCUS_DEPTH_MM, 0))
        fissure = np.hypot(scaled[0] + self._patches(points), np.maximum(8.0 - scaled[2], 0))
        pia = np.minimum(np.minimum(-cerebrum, sulcus - 0.5 * self._sulcus_width), fissure - 0.8)
        leaves = 1.5 * np.sin(0.85 * scaled[2] + 0.35 * scaled[1] + 0.7 * self._patches(points))
        core = np.clip(0.35 * (-hindbrain - 3.0), -2.0, 6.0)
        in_hindbrain = hindbrain < np.minimum(cerebrum, 0)
        pia = np.where(in_hindbrain, np.minimum(-hindbrain, _CORTEX_MM + core + leaves), pia)
        ventricles = self._ventricle_distance(scaled, mirrored)
        return _Depths(np.minimum(cerebrum, hindbrain), pia, ventricles, self._deep_grey_distance(mirrored))

    def _ventricle_distance(self, scaled: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
        """Distance from the lateral ventricles (frontal horn, body, occipital horn on each side) and the third."""
        width = self._ventricle_width
        parts = (
            ((8.0, 20.0, 8.0), (4.2 * width, 13.0, 6.5 * width), rotation_from_degrees(12, 0, -16)),
            ((9.5, -2.0, 13.0), (4.8 * width, 22.0, 4.6 * width), rotation_from_degrees(-4, 0, 10)),
            ((17.0, -30.0, 5.0), (4.8 * width, 14.0, 5.6 * width), rotation_from_degrees(10, 0, 14)),
        )
        distance = ellipsoid_distance(scaled, (0.0, -2.0, -6.0), (1.8 * width, 11.0, 9.0))
        for part in parts:
            distance = np.minimum(distance, ellipsoid_distance(mirrored, *part))
        return distance

    @staticmethod
    def _deep_grey_distance(mirrored: np.ndarray) -> np.ndarray:
        """Distance from caudate head, putamen and thalamus of both sides."""
        caudate = ellipsoid_distance(mirrored, (14.5, 16.0, 4.0), (4.0, 9.0, 8.0), rotation_from_degrees(0, 0, -14))
        putamen = ellipsoid_distance(mirrored, (24.0, 4.0, -2.0), (4.5, 14.0, 8.5), rotation_from_degrees(0, 0, -10))
        thalamus = ellipsoid_distance(mirrored, (9.5, -10.0, -1.0), (6.5, 11.5, 7.5), rotation_from_degrees(0, 0, 20))
        return np.minimum(np.minimum(caudate, putamen), thalamus)

    def _layers(self, points: np.ndarray, edge_mm: float) -> list[tuple[str, np.ndarray]]:
        """Tissues in the order of painting, later ones over earlier ones: name, fraction of each voxel."""
        depths = self._depths(points)
        scaled = self._scaled(points)
        head = self._head_distance(points)
        patches = self._patches(points)
        pia = inside(-depths.pia, edge_mm)
        white = inside(_CORTEX_MM - depths.pia, edge_mm)
        ventricles = inside(depths.ventricles, edge_mm)
        atrium = ellipsoid_distance(_mirrored(scaled), (15.0, -24.0, 9.0), (6.0, 7.5, 5.5))
        cap = inside(np.abs(depths.ventricles - 0.8) - 0.9, 1.5) * inside(0.5 - patches, 1.0) * white
        layers = [
            ("scalp", inside(head, edge_mm)),
            ("soft tissue", inside(head + 5.0 + patches, edge_mm)),
            ("skull", inside(depths.brain - 6.5, edge_mm)),
            ("csf", inside(depths.brain - 1.8, edge_mm)),
            ("grey", pia),
            ("bright cortex", pia * inside((1.8 - patches) * 3, edge_mm)),
            ("white", white),
            ("deep grey", inside(depths.deep_grey, edge_mm) * white),
            ("cap", cap),
            ("csf", ventricles),
            ("choroid", ventricles * inside(atrium + 2.0 * self._rough(points), edge_mm)),
        ]
        shape, brightness = self._lesion_fraction(points, depths, edge_mm)
        return [*layers, ("lesion", shape * brightness)]

    def _lesion_fraction(self, points: np.ndarray, depths: _Depths, edge_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Share of every voxel that is lesion, and how bright the lesion there is."""
        shape = np.zeros(points.shape[1:], dtype=np.float32)
        brightness = np.ones_like(shape)
        for lesion in self.lesions:
            reach = max(lesion.semi_axes_mm) + 4
            near = np.ones(shape.shape, dtype=bool)
            for axis in range(3):
                near &= np.abs(points[axis] - np.float32(lesion.position_ras[axis])) < reach
            place = points[:, near]
            distance = ellipsoid_distance(place, lesion.position_ras, lesion.semi_axes_mm, lesion.rotation)
            fraction = inside(distance + 0.9 * self._rough(place), max(edge_mm, 1.5))
            brightness[near] = np.where(fraction > shape[near], lesion.brightness, brightness[near])
            shape[near] = np.maximum(shape[near], fraction)
        in_white = inside(_CORTEX_MM + 0.4 - depths.pia, edge_mm) * inside(-depths.ventricles, edge_mm)
        return shape * in_white * inside(-depths.deep_grey, edge_mm), brightness

    def _place_lesions(self, count: int) -> list[TrueLesion]:
        """Two in three beside the ventricles and standing out from them, the others deep in white matter."""
        rng = self._rng
        candidates = rng.uniform((-50, -62, -20), (50, 62, 46), (6000, 3)).astype(np.float32).T
        depths = self._depths(candidates)
        white = (depths.pia > _CORTEX_MM + 2) & (depths.deep_grey > 2.5) & (candidates[2] > -16)
        beside = candidates[:, white & (depths.ventricles > 1.0) & (depths.ventricles < 5)]
        deep = candidates[:, white & (depths.ventricles > 8)]
        lesions = []
        for number in range(count):
            pool = deep if number % 3 == 2 and deep.size else beside
            position = pool[:, rng.integers(pool.shape[1])]
            if pool is beside:
                long_mm, short_mm = rng.uniform(5.0, 10.0), rng.uniform(3.5, 6.0)
                # Dawson's fingers stand at right angles to the ventricle's long axis
                rotation = rotation_from_degrees(*rng.normal(0, 12, 2), rng.normal(0, 15))
                axes = (long_mm, short_mm, short_mm * rng.uniform(0.8, 1.3))
            else:
                long_mm = rng.uniform(3.5, 7.0)
                rotation = rotation_from_degrees(*rng.uniform(-90, 90, 3))
                axes = (long_mm, long_mm * rng.uniform(0.7, 1), long_mm * rng.uniform(0.7, 1))
            lesions.append(
                TrueLesion(tuple(map(float, position)), tuple(map(float, axes)), rotation, rng.uniform(0.75, 1.0))
            )
        return lesions

    # -- scanner -------------------------------------------------------------------------------

    def _signal(self, channel: str, layers, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Tissues painted over each other under a receive coil that does not see all places alike."""
        column = CHANNELS.index(channel)
        signal = np.zeros(points.shape[1:], dtype=np.float32)
        for tissue, fraction in layers:
            paint(signal, fraction, self._tissue_signal[tissue][column])
        coil = SmoothField(rng, 60.0, 130.0)
        return signal * np.exp(0.10 * coil(points))


def _mirrored(points: np.ndarray) -> np.ndarray:
    """Points (3, ...) of the left half moved to the right half, for anatomy that comes in pairs."""
    return np.stack([np.abs(points[0]), points[1], points[2]])


def brain_case(seed: int, patient: str, variant: str = "isotropic") -> Case:
    """A patient with FLAIR, T1, T2 and the true lesion mask on the FLAIR grid.

    Parameters
    ----------
    seed : the same seed and variant give the same voxels.
    patient : identifier.
    variant : "isotropic" (2 mm, one grid), "oblique" (the same, tilted, axes RAS), "anisotropic"
        (1 x 1 x 3 mm, axes LAS) or "mixed grids" (FLAIR oblique, T1 sagittal, T2 in thick slices).
    """
    phantom = BrainPhantom(seed)
    rng = np.random.default_rng([11, seed])
    grids = _grids(variant, rng)
    images: dict[str, np.ndarray] = {}
    for grid in {id(g): g for g in grids.values()}.values():
        images.update(phantom.images(tuple(name for name in CHANNELS if grids[name] is grid), grid, rng))
    channels = {name: Volume(images[name], grids[name], f"{patient} {name}") for name in CHANNELS}
    mask = Volume(phantom.truth(grids["FLAIR"]), grids["FLAIR"], f"{patient} lesion mask")
    return Case(patient, channels, "FLAIR", mask)


def _grids(variant: str, rng: np.random.Generator) -> dict[str, Grid]:
    centre = np.array([0.0, 0.0, 2.0]) + rng.uniform(-3, 3, 3)
    tilt = rng.uniform(-15, 15, 3) * (1.0, 0.6, 0.6)
    extent = (144.0, 172.0, 128.0)
    if variant == "mixed grids":
        return {
            "FLAIR": box_grid(centre, extent, (2.0, 2.0, 2.0), "LPS", tilt),
            "T1": box_grid(
                centre + np.array([1.0, -2.0, 3.0]), (176.0, 136.0, 148.0), (1.8, 1.8, 2.4), "PSL", tilt / 3
            ),
            "T2": box_grid(centre, extent, (1.5, 1.5, 3.0), "LPS"),
        }
    if variant == "anisotropic":
        grid = box_grid(centre, extent, (1.0, 1.0, 3.0), "LAS", tilt * (0.7, 0, 0))
    elif variant == "oblique":
        grid = box_grid(centre, extent, (2.0, 2.0, 2.0), "RAS", tilt)
    else:
        grid = box_grid(centre, extent, (2.0, 2.0, 2.0), "LPS")
    return dict.fromkeys(CHANNELS, grid)
