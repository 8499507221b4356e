"""The 79 features against closed forms, a second implementation by the definition, and their symmetries."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from XTLLib.errors import InputError, MissingPackageError
from XTLLib.study.radiomics import FEATURE_NAMES, LEVELS, grey_levels, image_features, patch_features

_OFFSETS = {  # (distance, angle) -> rows, columns; what rounding makes of 45 degrees
    **{(d, 0): (0, d) for d in (1, 2, 4, 6)},
    **{(d, 90): (d, 0) for d in (1, 2, 4, 6)},
    **{(d, 45): (n, n) for d, n in ((1, 1), (2, 1), (4, 3), (6, 4))},
}
_IMAGES = arrays(np.int64, st.tuples(st.integers(7, 12), st.integers(7, 12)), elements=st.integers(0, 23))


def _of_levels(levels: np.ndarray) -> np.ndarray:
    """An image whose grey levels are these: the middle of each step of the range, exact in binary."""
    return (np.asarray(levels) + 0.5) / LEVELS


def _named(image: np.ndarray) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, image_features(image).tolist(), strict=True))


def _by_definition(levels: np.ndarray) -> dict[str, float]:
    """Haralick's matrix pair by pair, and its properties sum by sum."""
    found = {}
    rows, columns = levels.shape
    for (distance, angle), (down, right) in _OFFSETS.items():
        pairs = [
            (int(levels[r, c]), int(levels[r + down, c + right]))
            for r in range(rows - down)
            for c in range(columns - right)
        ]
        share = {pair: pairs.count(pair) / len(pairs) for pair in set(pairs)}
        mean_i, mean_j = (sum(p * pair[n] for pair, p in share.items()) for n in (0, 1))
        sd_i, sd_j = (
            np.sqrt(sum(p * (pair[n] - mean) ** 2 for pair, p in share.items()))
            for n, mean in ((0, mean_i), (1, mean_j))
        )
        covariance = sum(p * (i - mean_i) * (j - mean_j) for (i, j), p in share.items())
        has_one_level = any(len({pair[n] for pair in share}) == 1 for n in (0, 1))
        asm = sum(p**2 for p in share.values())
        values = {
            "contrast": sum(p * (i - j) ** 2 for (i, j), p in share.items()),
            "dissimilarity": sum(p * abs(i - j) for (i, j), p in share.items()),
            "homogeneity": sum(p / (1 + (i - j) ** 2) for (i, j), p in share.items()),
            "ASM": asm,
            "energy": asm**0.5,
            "correlation": 1.0 if has_one_level else covariance / (sd_i * sd_j),
        }
        found |= {f"{name}, {distance} px, {angle} degrees": value for name, value in values.items()}
    return found


def test_there_are_79_features_of_different_names():
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 79
    assert sum("px" in name for name in FEATURE_NAMES) == 4 * 3 * 6


@settings(max_examples=25, deadline=None)
@given(_IMAGES)
def test_features_are_those_of_the_definition(levels):
    image = _of_levels(levels)
    found = _named(image)
    expected = _by_definition(levels)
    assert len(expected) == 72
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    values = image.reshape(-1)
    mean = sum(values) / values.size
    assert found["mean"] == pytest.approx(mean)
    assert found["SD"] == pytest.approx((sum((v - mean) ** 2 for v in values) / values.size) ** 0.5)
    for order in (2, 3, 4, 5):
        moment = sum((v - mean) ** order for v in values) / values.size
        assert found[f"central moment {order}"] == pytest.approx(moment, abs=1e-12)
    shares = [np.mean(levels == level) for level in range(LEVELS) if (levels == level).any()]
    assert found["entropy"] == pytest.approx(-sum(p * np.log2(p) for p in shares), abs=1e-12)


def test_a_checkerboard():
    rows, columns = np.mgrid[:8, :8]
    found = _named(np.where((rows + columns) % 2, 0.75, 0.25))  # levels 24 and 8
    for angle in (0, 90):
        odd = {name: found[f"{name}, 1 px, {angle} degrees"] for name in ("contrast", "dissimilarity", "homogeneity")}
        assert odd == {"contrast": 256, "dissimilarity": 16, "homogeneity": pytest.approx(1 / 257)}
        assert found[f"correlation, 1 px, {angle} degrees"] == pytest.approx(-1)
        assert found[f"ASM, 1 px, {angle} degrees"] == pytest.approx(0.5)
        for distance in (2, 4, 6):
            assert found[f"contrast, {distance} px, {angle} degrees"] == 0
            assert found[f"correlation, {distance} px, {angle} degrees"] == pytest.approx(1)
    assert found["contrast, 1 px, 45 degrees"] == found["contrast, 4 px, 45 degrees"] == 0
    statistics = [found[name] for name in FEATURE_NAMES[-7:]]
    assert statistics == pytest.approx([0.5, 0.25, 0.25**2, 0, 0.25**4, 0, 1])


def test_a_ramp_of_one_level_a_column():
    found = _named(_of_levels(np.tile(np.arange(16), (10, 1))))
    for distance in (1, 2, 4, 6):
        across = [found[f"{name}, {distance} px, 0 degrees"] for name in ("contrast", "dissimilarity", "homogeneity")]
        assert across == pytest.approx([distance**2, distance, 1 / (1 + distance**2)])
        assert found[f"ASM, {distance} px, 0 degrees"] == pytest.approx(1 / (16 - distance))
        assert found[f"contrast, {distance} px, 90 degrees"] == 0
        assert found[f"ASM, {distance} px, 90 degrees"] == pytest.approx(1 / 16)
        for angle in (0, 45, 90):
            assert found[f"correlation, {distance} px, {angle} degrees"] == pytest.approx(1)
    # Offsets are whole pixels: 4 px at 45 degrees are (3, 3).
    assert [found[f"contrast, {d} px, 45 degrees"] for d in (1, 2, 4, 6)] == pytest.approx([1, 1, 9, 16])
    assert found["entropy"] == pytest.approx(4)


def test_a_constant_image_has_finite_features():
    found = _named(np.full((7, 7), 0.5))
    assert np.isfinite(list(found.values())).all()
    assert found["ASM, 1 px, 0 degrees"] == found["correlation, 1 px, 0 degrees"] == 1
    assert found["SD"] == found["entropy"] == found["contrast, 6 px, 90 degrees"] == 0


@settings(max_examples=25, deadline=None)
@given(_IMAGES, st.integers(1, 8))
def test_a_shift_by_whole_levels_changes_the_mean_alone(levels, shift):
    before, after = _named(_of_levels(levels)), _named(_of_levels(levels + shift))
    assert after.pop("mean") - before.pop("mean") == pytest.approx(shift / LEVELS)
    assert after == pytest.approx(before, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(_IMAGES)
def test_turning_by_180_degrees_changes_nothing_and_transposing_exchanges_0_and_90_degrees(levels):
    image = _of_levels(levels)
    assert image_features(image[::-1, ::-1]) == pytest.approx(image_features(image), abs=1e-9)
    exchange = {", 0 degrees": ", 90 degrees", ", 90 degrees": ", 0 degrees"}
    upright = _named(image)
    for name, value in _named(image.T).items():
        other = next((name.replace(old, new) for old, new in exchange.items() if name.endswith(old)), name)
        assert value == pytest.approx(upright[other], abs=1e-9), name


def test_levels_are_equal_steps_of_the_range():
    assert grey_levels(np.array([0, 0.999 / 32, 1 / 32, 0.5, 31 / 32, 1])).tolist() == [0, 0, 1, 16, 31, 31]


def test_patches_give_the_features_of_each_channel_s_middle_slice():
    patches = np.random.default_rng(0).random((2, 3, 5, 9, 8))
    found = patch_features(patches)
    assert found.shape == (2, 3 * 79)
    assert np.array_equal(found[1, 79:158], image_features(patches[1, 1, 2]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((6, 32)), "shape"),
        (np.zeros((1, 32, 32)), "shape"),
        (np.full((8, 8), 1.5), "from 1.5 to 1.5"),
        (np.full((8, 8), np.nan), "nan"),
    ],
)
def test_what_has_no_features_is_refused(image, message):
    with pytest.raises(InputError, match=message):
        image_features(image)


def test_without_scikit_image_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(MissingPackageError, match=r"scikit-image\..*pip install scikit-image"):
        image_features(np.zeros((8, 8)))
