"""What the tests of the web page share: a scene with its models, and a browser."""

from __future__ import annotations

import pytest
from web_scenes import CHROMIUM, save_results
from XTLLib.bundle.load import load_bundle
from XTLLib.inference.classify import classify_case
from XTLLib.inference.segment import segment_case
from XTLLib.scene.self_test import (
    small_brain,
    small_prostate,
    write_classification_bundle,
    write_segmentation_bundle,
)


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A scene with lesions and findings of untrained models, which lie beside it."""
    folder = tmp_path_factory.mktemp("page")
    brain = segment_case(small_brain(), load_bundle(write_segmentation_bundle(folder / "bundles" / "untrained-ms")))
    bundle = write_classification_bundle(folder / "bundles" / "untrained-prostate")
    prostate = classify_case(small_prostate(), load_bundle(bundle))
    save_results(folder / "scene.mrb", brain, prostate)
    return folder / "scene.mrb", brain, prostate


@pytest.fixture(scope="module")
def browser():
    """Not for longer than a module: playwright keeps an event loop running."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
