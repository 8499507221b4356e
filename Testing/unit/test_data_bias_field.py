"""N4 takes out a known field and leaves the tissues."""

from __future__ import annotations

import numpy as np
import pytest
from XTLLib.data.bias_field import remove_bias

SPACING_MM = 3.0


@pytest.fixture(scope="module")
def tissue() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two tissues in a ball of 65 mm radius, the ball, and coordinates (3, K, J, I) in mm."""
    k, j, i = (np.indices((48, 48, 48)) - 23.5) * SPACING_MM
    ball = np.sqrt(k**2 + j**2 + i**2) < 65
    wavy = np.sin(k / 8) + np.sin(j / 9) + np.sin(i / 7)
    return np.where(ball, np.where(wavy > 0, 100.0, 60.0), 0.0).astype(np.float32), ball, np.stack([k, j, i])


def residual(image: np.ndarray, tissue: np.ndarray, ball: np.ndarray) -> float:
    """SD over the ball of the logarithm of what multiplies the tissue."""
    return float(np.log(image[ball] / tissue[ball]).std())


def test_a_known_field_is_taken_out_down_to_the_noise_and_the_level_stays(tissue):
    clean, ball, (k, j, i) = tissue
    noise = 1 + 0.02 * np.random.default_rng(0).normal(size=clean.shape)
    image = (clean * np.exp(0.004 * i - 0.003 * j + 0.00003 * k**2) * noise).astype(np.float32)
    before, level = residual(image, clean, ball), np.log(image[ball]).mean()
    again = image.copy()
    remove_bias(image, ball, (SPACING_MM,) * 3)
    assert before > 0.14 and residual(image, clean, ball) < 0.03  # 0.02 of it is the noise
    assert np.log(image[ball]).mean() == pytest.approx(level, abs=1e-3)
    remove_bias(again, ball, (SPACING_MM,) * 3)
    assert np.array_equal(again, image)


def test_an_image_without_a_field_and_one_without_values_stay(tissue):
    clean, ball, _ = tissue
    image = clean.copy()
    remove_bias(image, ball, (SPACING_MM,) * 3)
    assert residual(image, clean, ball) < 0.02
    empty = np.zeros_like(clean)
    remove_bias(empty, ball, (SPACING_MM,) * 3)
    assert not empty.any()


def test_values_without_a_logarithm_are_left_as_they_are(tissue):
    clean, ball, _ = tissue
    image = clean.copy()
    image[20:24, 20:24, 20:24] = -3.0
    remove_bias(image, ball, (SPACING_MM,) * 3)
    assert (image[20:24, 20:24, 20:24] == -3.0).all() and np.isfinite(image).all()
