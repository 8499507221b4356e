"""Mammogram phantoms: breast, fibroglandular texture, pectoral muscle, masses and calcifications."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIXEL_MM = 0.8
SHAPE = (256, 208)
SEVERITIES = ("normal", "benign", "malignant")
VIEWS = ("MLO", "CC")


@dataclass(frozen=True, eq=False)
class MammogramPhantom:
    """One generated film.

    Attributes
    ----------
    pixels : uint16 (rows from the top, columns from the left), background about 0, 12 bits used.
    severity : normal, benign or malignant.
    laterality : "L" or "R"; the chest wall of an L lies at the left edge of the picture, of an R at the right.
    view : MLO or CC; the pectoral muscle shows on MLO.
    centre_px : (column, row) of the abnormality, None when normal.
    radius_px : about its radius without spicules, None when normal.
    """

    pixels: np.ndarray
    severity: str
    laterality: str
    view: str
    centre_px: tuple[float, float] | None
    radius_px: float | None

    @property
    def abnormal(self) -> int:
        """1 for benign and malignant, 0 for normal."""
        return int(self.severity != "normal")


def mammogram(seed: int, severity: str = "normal", laterality: str = "L", view: str = "MLO") -> MammogramPhantom:
    """A film: the same arguments give the same pixels.

    Benign masses are round or oval with a sharp border; malignant ones have an uneven, blurred
    border with spicules and often a cluster of fine calcifications. Dense tissue of normal films
    overlaps to shapes that look like masses at a glance.
    """
    rng = np.random.default_rng([13, seed])
    rows, columns = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in SHAPE), indexing="ij")
    depth = _skin_distance(rows, columns, view, rng)
    thickness = 1 - np.exp(-np.clip(depth, 0, None) / rng.uniform(9, 14))
    density, gland = _fibroglandular(rows, columns, depth, rng)
    film = thickness * (0.24 + 0.42 * gland)
    centre = radius = None
    if severity != "normal":
        centre, radius = _place(depth, density, rng)
        film += thickness * _abnormality(severity, rows - centre[1], columns - centre[0], radius, rng)
    if view == "MLO":
        muscle = _pectoral(rows, columns, rng)
        film = np.where(depth > 0, np.maximum(film, 0) + muscle * (0.30 + 0.05 * power_law_noise(1.6, rng)), film)
    film = np.clip(film, 0, None) + 0.010 * rng.standard_normal(SHAPE) * np.sqrt(0.1 + np.clip(film, 0, 1))
    film = np.where(depth > 0, film, 0.012 * np.abs(rng.standard_normal(SHAPE)))
    pixels = np.clip(film * rng.uniform(2900, 3600), 0, 4095).astype(np.uint16)
    if laterality == "R":
        pixels = pixels[:, ::-1].copy()
        centre = None if centre is None else (SHAPE[1] - 1 - centre[0], centre[1])
    return MammogramPhantom(pixels, severity, laterality, view, centre, radius)


def power_law_noise(exponent: float, rng: np.random.Generator, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Noise whose amplitude spectrum falls as frequency**-exponent, zero mean, unit SD.

    Breast tissue has about 1.5 (power spectrum ~ 1/f^3: Burgess, Med Phys 1999;26:2).
    """
    fy, fx = np.fft.fftfreq(2 * shape[0])[:, None], np.fft.rfftfreq(2 * shape[1])[None]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((2 * shape[0], 2 * shape[1]))) * frequency**-exponent
    noise = np.fft.irfft2(spectrum)[: shape[0], : shape[1]]
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def _skin_distance(rows, columns, view: str, rng) -> np.ndarray:
    """About the distance from the skin line in pixels, positive inside the breast."""
    height, width = SHAPE
    middle = height * (rng.uniform(0.56, 0.64) if view == "MLO" else rng.uniform(0.46, 0.54))
    up, down = (height * rng.uniform(0.52, 0.62), height * rng.uniform(0.34, 0.42))
    if view == "CC":
        up = down = height * rng.uniform(0.38, 0.46)
    reach = width * rng.uniform(0.70, 0.90)
    power = rng.uniform(2.0, 2.4)
    upright = (rows - middle) / np.where(rows < middle, up, down)
    radius = (np.abs(upright) ** power + (columns / reach) ** power) ** (1 / power)
    nipple = 5 * np.exp(-(((rows - middle - 6) / 7) ** 2)) * (columns > 0.6 * reach)
    return (1 - radius) * 0.5 * (reach + down) + nipple


def _fibroglandular(rows, columns, depth, rng) -> tuple[np.ndarray, np.ndarray]:
    """Where dense tissue gathers (0..1, smooth) and the tissue pattern itself (about 0..1.3)."""
    height, width = SHAPE
    middle, spread = height * rng.uniform(0.45, 0.6), rng.uniform(0.20, 0.30)
    cone = np.exp(-(((rows - middle) / (height * spread)) ** 2) - ((columns - 0.45 * width) / (0.38 * width)) ** 2)
    density = cone * np.clip(depth / 18, 0, 1)
    coarse, fine = power_law_noise(1.9, rng), power_law_noise(1.25, rng)
    clumps = 1 / (1 + np.exp(-2.5 * (coarse + rng.uniform(-0.5, 0.7) + 1.6 * density - 1.0)))
    # ligaments and ducts: thin bright lines where two smooth fields cross zero
    lines = [np.exp(-((power_law_noise(exponent, rng) / 0.10) ** 2)) for exponent in (1.7, 1.5)]
    strands = np.maximum(lines[0], 0.7 * lines[1]) * np.clip(0.35 + density + 0.3 * coarse, 0, 1)
    tissue = density * clumps * (1.0 + 0.22 * fine) + 0.06 * (1 - density) * (1 + fine) + 0.30 * strands
    return density, np.clip(tissue, 0, 1.5) * np.clip(depth / 6, 0, 1)


def _pectoral(rows, columns, rng) -> np.ndarray:
    """Triangle of muscle at the upper chest wall, 0..1 with a soft, slightly curved border."""
    height, width = SHAPE
    foot, top = height * rng.uniform(0.42, 0.62), width * rng.uniform(0.28, 0.46)
    line = rows / foot + columns / top + 0.10 * np.sin(np.pi * rows / foot)
    return np.clip((1 - line) * 5 + 0.5, 0, 1) * np.clip(1.15 - 0.45 * rows / foot, 0, 1)


def _place(depth, density, rng) -> tuple[tuple[float, float], float]:
    """Centre (column, row) and radius in pixels of an abnormality, inside the gland more often than not."""
    radius = rng.uniform(8.0, 16.0)
    weight = np.where(depth > radius + 8, density + 0.08, 0).ravel().astype(np.float64)
    weight[np.arange(weight.size) % SHAPE[1] < radius + 6] = 0
    index = rng.choice(weight.size, p=weight / weight.sum())
    return (float(index % SHAPE[1]), float(index // SHAPE[1])), radius


def _abnormality(severity: str, dy, dx, radius: float, rng) -> np.ndarray:
    """What a mass adds to the film."""
    angle, distance = np.arctan2(dy, dx), np.hypot(dx, dy)
    contrast = rng.uniform(0.18, 0.32)
    if severity == "benign":
        tilt, oval = rng.uniform(0, np.pi), rng.uniform(1.0, 1.35)
        u, v = dx * np.cos(tilt) + dy * np.sin(tilt), dy * np.cos(tilt) - dx * np.sin(tilt)
        border = np.hypot(u / oval, v * oval) - radius
        mass = np.clip(0.5 - border / 3.5, 0, 1) * (0.75 + 0.25 * np.sqrt(np.clip(-border / radius, 0, 1)))
        halo = -0.12 * np.exp(-(((border - 3) / 2.5) ** 2))
        return contrast * (mass + halo) + _calcifications(dy, dx, radius, rng, int(rng.integers(0, 3)), 1.6)
    lobes = sum(rng.normal(0, 0.16) * np.cos(n * angle + rng.uniform(0, 2 * np.pi)) for n in range(2, 7))
    border = distance / (1 + lobes) - 0.75 * radius
    mass = 1 / (1 + np.exp(np.clip(border / (0.22 * radius), -30, 30)))
    spicules = np.zeros_like(mass)
    for direction in rng.uniform(-np.pi, np.pi, int(rng.integers(9, 17))):
        away = dx * np.cos(direction) + dy * np.sin(direction)
        aside = dy * np.cos(direction) - dx * np.sin(direction) + 0.006 * rng.normal(0, 1) * away**2
        length = radius * rng.uniform(1.5, 2.8)
        taper = np.clip(1 - away / length, 0, 1) * (away > 0)
        spicules = np.maximum(spicules, taper * np.exp(-((aside / (0.7 + 1.2 * taper)) ** 2)))
    count = int(rng.integers(8, 20)) if rng.random() < 0.5 else 0
    return contrast * (mass + 0.65 * spicules * (1 - mass)) + _calcifications(dy, dx, radius, rng, count, 0.8)


def _calcifications(dy, dx, radius: float, rng, count: int, size: float) -> np.ndarray:
    """Bright grains in and around a mass."""
    grains = np.zeros_like(dx)
    for _ in range(count):
        y, x = rng.normal(0, 0.6 * radius, 2)
        grain = np.exp(-((dx - x) ** 2 + (dy - y) ** 2) / (2 * (size * rng.uniform(0.7, 1.3)) ** 2))
        grains = np.maximum(grains, rng.uniform(0.15, 0.35) * grain)
    return grains
