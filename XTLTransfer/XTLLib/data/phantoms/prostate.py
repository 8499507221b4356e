"""Prostate MR phantoms: T2W, ADC and high-b-value images of a pelvis with marked findings.

Significant findings tend to be dark on T2W, low on ADC and bright on HBV; insignificant ones have
the same signs weaker, or lack one of them. The two groups overlap, so that no reader can be always
right. Nodules of the transition zone look like findings and were not marked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..case import Case, Finding
from ..geometry import Grid
from ..volume import Volume
from .fields import SmoothField, box_grid, ellipsoid_distance, inside, paint, points_of, rician, rotation_from_degrees

CHANNELS = ("T2W", "ADC", "HBV")
B_VALUE_S_PER_MM2 = 1000.0

# Relative T2W signal, ADC in 1e-6 mm2/s, relative signal without diffusion weighting.
_TISSUE = {
    "fat": (0.80, 150.0, 0.10),
    "muscle": (0.22, 1150.0, 0.45),
    "bone": (0.30, 350.0, 0.15),
    "bladder": (1.15, 2600.0, 1.40),
    "rectal wall": (0.45, 1250.0, 0.70),
    "rectum": (0.05, 300.0, 0.03),
    "capsule": (0.25, 1200.0, 0.60),
    "peripheral zone": (0.95, 1620.0, 1.15),
    "transition zone": (0.55, 1280.0, 0.95),
    "nodule": (0.35, 1080.0, 0.90),
    "bright nodule": (0.85, 1650.0, 1.05),
    "urethra": (0.85, 1500.0, 1.00),
}
_LESION_T2W, _LESION_ADC, _LESION_S0 = 0.28, 620.0, 1.15
_FIELD_HALF_MM = 100.0


@dataclass(frozen=True)
class TrueFinding:
    """A finding as it was put in.

    Attributes
    ----------
    finding : what a reader would be given, with the truth.
    semi_axes_mm : of the ellipsoid.
    signs : how strong the signs on T2W, ADC and HBV are, 0 (none) to about 1 (full).
    """

    finding: Finding
    semi_axes_mm: tuple[float, float, float]
    signs: tuple[float, float, float]


class ProstatePhantom:
    """The anatomy of one generated patient, to be sampled on any grid. The gland's centre is at the origin.

    Attributes
    ----------
    findings : the marked findings, at least one.
    """

    def __init__(self, seed: int):
        rng = np.random.default_rng([17, seed])
        self._rng = rng
        self._gland = np.array([25.0, 18.0, 21.0]) * rng.uniform(0.92, 1.15, 3)
        self._transition = self._gland * (0.68, 0.66, 0.80) * rng.uniform(0.92, 1.06)
        self._transition_centre = (0.0, 0.24 * self._gland[1], 1.5)
        self._rectum = (rng.uniform(-4, 4), -self._gland[1] - 12.5, 0.0)
        self._rough = SmoothField(rng, 3.5, 60.0)
        self._streaks = SmoothField(rng, 6.0, 60.0)
        self._nodules = SmoothField(rng, 4.2, 60.0, band_pass=True)
        self._wide = SmoothField(rng, 24.0, _FIELD_HALF_MM)
        self._tissue = {name: tuple(v * rng.uniform(0.94, 1.06) for v in values) for name, values in _TISSUE.items()}
        self.findings = tuple(self._place_findings(int(rng.integers(1, 5))))

    def t2w(self, grid: Grid, rng: np.random.Generator) -> np.ndarray:
        """T2-weighted image: uint16 (K, J, I)."""
        points = points_of(grid)
        (signal,) = self._paint(points, (0,), float(np.mean(grid.spacing_mm[:2])))
        signal *= np.exp(0.12 * SmoothField(rng, 70.0, 130.0)(points))
        return np.round(rng.uniform(350, 600) * rician(signal, 0.035, rng)).astype(np.uint16)

    def diffusion(self, grid: Grid, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """ADC in 1e-6 mm2/s, 0 = no value, and the image at b = 1000 s/mm2: two uint16 (K, J, I)."""
        points = points_of(grid)
        edge_mm = float(np.mean(grid.spacing_mm[:2]))
        adc, proton = self._paint(points, (1, 2), edge_mm)
        hbv = proton * np.exp(-B_VALUE_S_PER_MM2 * 1e-6 * adc)
        hbv *= 1 + self._restriction(points, edge_mm)
        measured = adc * (1 + 0.05 * rng.standard_normal(grid.shape, dtype=np.float32))
        measured[(proton < 0.2) | (self._body(points) > 0)] = 0
        gain = rng.uniform(250, 400)
        noisy = gain * rician(hbv, 0.012, rng)
        return np.round(measured.clip(0, 4000)).astype(np.uint16), np.round(noisy).astype(np.uint16)

    # -- anatomy -------------------------------------------------------------------------------

    @staticmethod
    def _body(points: np.ndarray) -> np.ndarray:
        return ellipsoid_distance(points, (0.0, 8.0, 0.0), (165.0, 105.0, 400.0))

    def _paint(self, points: np.ndarray, quantities: tuple[int, ...], edge_mm: float) -> np.ndarray:
        """T2W signal (0), ADC (1) or signal without diffusion weighting (2) at points (3, ...): (quantities, ...)."""
        images = np.zeros((len(quantities), *points.shape[1:]), dtype=np.float32)

        def cover(fraction: np.ndarray, tissue: str) -> None:
            for image, quantity in zip(images, quantities):
                paint(image, fraction, self._tissue[tissue][quantity])

        mirrored = np.stack([np.abs(points[0]), points[1], points[2]])
        wide, streaks = 3.0 * self._wide(points), self._streaks(points)
        cover(inside(self._body(points), edge_mm), "fat")
        cover(inside((1.3 - streaks) * 3, 2.0) * 0.5, "muscle")  # vessels and fascia
        for centre, axes, turn, tissue in (
            ((52.0, 2.0, 5.0), (11.0, 34.0, 60.0), -12, "muscle"),
            ((66.0, -4.0, 10.0), (9.0, 30.0, 60.0), -18, "bone"),
            ((26.0, 46.0, -4.0), (24.0, 10.0, 22.0), 28, "bone"),
            ((28.0, -52.0, 0.0), (34.0, 16.0, 70.0), 25, "muscle"),
        ):
            distance = ellipsoid_distance(mirrored, centre, axes, rotation_from_degrees(0, 0, turn)) + wide
            cover(inside(distance, edge_mm), tissue)
        levator = ellipsoid_distance(points, (0.0, -22.0, 0.0), (33.0, 34.0, 200.0)) + wide
        cover(inside(np.maximum(np.abs(levator) - 2.2, points[1] - 4.0 - wide), edge_mm), "muscle")
        bladder = ellipsoid_distance(points, (0.0, 14.0, self._gland[2] + 20.0), (34.0, 26.0, 22.0))
        cover(inside(bladder - 2.5, edge_mm), "muscle")
        cover(inside(bladder, edge_mm), "bladder")
        rectum = ellipsoid_distance(points, self._rectum, (14.0, 11.0, 200.0)) + wide + streaks
        cover(inside(rectum, edge_mm), "rectal wall")
        cover(inside(rectum + 3.0, edge_mm), "rectum")

        near = np.abs(points).max(axis=0) < 1.2 * self._gland.max()
        place, part = points[:, near], images[:, near]
        for layer, tissue in self._gland_layers(place, edge_mm):
            for image, quantity in zip(part, quantities):
                paint(image, layer, self._tissue[tissue][quantity])
        part *= 1 + 0.06 * self._rough(place) * inside(self._gland_distance(place), edge_mm)
        images[:, near] = part
        for image, quantity in zip(images, quantities):
            self._paint_findings(image, points, quantity, edge_mm)
        return images

    def _gland_layers(self, points: np.ndarray, edge_mm: float) -> list[tuple[np.ndarray, str]]:
        """Fractions and tissues of the gland at points (3, n), later ones over earlier ones."""
        gland, transition = self._gland_distance(points), self._transition_distance(points)
        in_gland, in_transition = inside(gland, edge_mm), inside(transition, edge_mm)
        nodules = self._nodules(points)
        patchy = inside((1.0 - self._streaks(points)) * 5, 3.0) * 0.4
        urethra = np.hypot(points[0], points[1] - 2.0) - 2.2
        return [
            (inside(gland - 1.2, edge_mm), "capsule"),
            (in_gland, "peripheral zone"),
            (in_gland * patchy, "transition zone"),
            (in_gland * inside(np.abs(transition) - 0.6, edge_mm), "capsule"),
            (inside(transition + 0.8, edge_mm), "transition zone"),
            (in_transition * inside((1.0 - nodules) * 4, edge_mm) * 0.8, "nodule"),
            (in_transition * inside((1.0 + nodules) * 4, edge_mm) * 0.8, "bright nodule"),
            (in_gland * inside(urethra, edge_mm), "urethra"),
        ]

    def _gland_distance(self, points: np.ndarray) -> np.ndarray:
        """Ellipsoid with a flattened back."""
        return np.maximum(ellipsoid_distance(points, (0, 0, 0), self._gland), -0.86 * self._gland[1] - points[1])

    def _transition_distance(self, points: np.ndarray) -> np.ndarray:
        return ellipsoid_distance(points, self._transition_centre, self._transition)

    def _finding_fraction(self, points: np.ndarray, true: TrueFinding, edge_mm: float) -> np.ndarray:
        distance = ellipsoid_distance(points, true.finding.position_ras, true.semi_axes_mm)
        return inside(distance + 0.8 * self._rough(points), max(edge_mm, 1.5)) * inside(
            self._gland_distance(points), edge_mm
        )

    def _paint_findings(self, image: np.ndarray, points: np.ndarray, quantity: int, edge_mm: float) -> None:
        target = (_LESION_T2W, _LESION_ADC, _LESION_S0)[quantity]
        for true in self.findings:
            near = self._near(points, true)
            strength = true.signs[quantity] if quantity < 2 else 1.0
            image[near] += (
                strength * self._finding_fraction(points[:, near], true, edge_mm) * (np.float32(target) - image[near])
            )

    def _restriction(self, points: np.ndarray, edge_mm: float) -> np.ndarray:
        """Brightness on HBV beyond what the ADC explains: the third sign varies on its own."""
        extra = np.zeros(points.shape[1:], dtype=np.float32)
        for true in self.findings:
            near = self._near(points, true)
            extra[near] += 0.8 * (true.signs[2] - 0.5) * self._finding_fraction(points[:, near], true, edge_mm)
        return np.maximum(extra, -0.6)

    @staticmethod
    def _near(points: np.ndarray, true: TrueFinding) -> np.ndarray:
        reach = max(true.semi_axes_mm) + 4
        near = np.ones(points.shape[1:], dtype=bool)
        for axis in range(3):
            near &= np.abs(points[axis] - np.float32(true.finding.position_ras[axis])) < reach
        return near

    def _place_findings(self, count: int) -> list[TrueFinding]:
        """Two in three in the peripheral zone; two in five are significant; more than 13 mm apart."""
        rng = self._rng
        candidates = rng.uniform(-1, 1, (3, 4000)) * (self._gland * (1, 1, 0.75))[:, None]
        gland, transition = self._gland_distance(candidates), self._transition_distance(candidates)
        pools = {
            "PZ": candidates[:, (gland < -3.5) & (transition > 2.5)],
            "TZ": candidates[:, (gland < -5) & (transition < -4)],
        }
        findings: list[TrueFinding] = []
        for number in range(1, count + 1):
            zone = "PZ" if rng.random() < 0.65 else "TZ"
            pool = pools[zone]
            for other in findings:
                apart = np.linalg.norm(pool - np.array(other.finding.position_ras)[:, None], axis=0) > 13
                pool = pool[:, apart]
            if not pool.size:
                break
            significant = bool(rng.random() < 0.42)
            position = tuple(float(v) for v in pool[:, rng.integers(pool.shape[1])])
            radius = rng.uniform(4.0, 7.5) if significant else rng.uniform(3.5, 6.5)
            axes = tuple(float(v) for v in radius * rng.uniform(0.8, 1.2, 3))
            finding = Finding(str(number), position, zone, significant)
            findings.append(TrueFinding(finding, axes, _signs(significant, rng)))
        return findings


def _signs(significant: bool, rng: np.random.Generator) -> tuple[float, float, float]:
    """Strength of the three signs; the two groups overlap."""
    overall = rng.normal(0.80, 0.17) if significant else rng.normal(0.45, 0.20)
    signs = overall + rng.normal(0, 0.13, 3)
    if not significant and rng.random() < 0.5:
        signs[rng.integers(3)] *= 0.3
    return tuple(float(s) for s in np.clip(signs, 0.0, 1.1))


def prostate_case(seed: int, patient: str) -> Case:
    """A patient with T2W, ADC, HBV and findings.

    T2W has 0.6-0.9 mm in-plane and 3 mm slices, oblique by up to 18 degrees; ADC and HBV share a
    coarser grid (2 mm in-plane) of the same orientation with another origin and field of view.
    """
    phantom = ProstatePhantom(seed)
    rng = np.random.default_rng([19, seed])
    tilt = (rng.uniform(-18, 18), rng.uniform(-4, 4), rng.uniform(-6, 6))
    shift = rng.uniform(-5, 5, 3) * (1, 1, 0.5)
    in_plane = float(rng.choice([0.6, 0.7, 0.8, 0.9]))
    fine = box_grid(shift, (108.0, 108.0, 54.0), (in_plane, in_plane, 3.0), "LPS", tilt)
    coarse = box_grid(-shift, (168.0, 128.0, 57.0), (2.0, 2.0, 3.0), "LPS", tilt)
    adc, hbv = phantom.diffusion(coarse, rng)
    channels = {
        "T2W": Volume(phantom.t2w(fine, rng), fine, f"{patient} T2W"),
        "ADC": Volume(adc, coarse, f"{patient} ADC"),
        "HBV": Volume(hbv, coarse, f"{patient} HBV"),
    }
    return Case(patient, channels, "T2W", findings=tuple(true.finding for true in phantom.findings))
