"""A prostate case, an untrained bundle and the panel of XTL Classify on them; for the tests that name it a plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
from lent_worker import Lent


@pytest.fixture(scope="module")
def case():
    from XTLLib.scene.self_test import small_prostate

    return small_prostate()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    from XTLLib.scene.self_test import write_classification_bundle

    return write_classification_bundle(tmp_path_factory.mktemp("prostate") / "bundle")


@pytest.fixture(scope="module")
def expected(case, bundle):
    """The same case and bundle without Slicer."""
    from XTLLib.bundle.load import load_bundle
    from XTLLib.inference.classify import classify_case

    return classify_case(case, load_bundle(bundle))


@pytest.fixture(scope="module")
def lent_worker():
    from XTLLib.inference.client import InferenceWorker

    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture
def panel(open_panel, scene, case, lent_worker, monkeypatch):
    """The panel on a case, with a worker that is warm from earlier tests."""
    from XTLLib.scene.inputs import add_case

    monkeypatch.setattr("XTLLib.inference.client.InferenceWorker", lambda: Lent(lent_worker))
    add_case(case, scene)
    return open_panel("XTLClassify")


@pytest.fixture
def ready(panel, bundle, case, scene):
    """The panel with everything chosen."""
    from XTLLib.scene.findings import findings_to_node

    findings = findings_to_node(case.findings, "findings", scene)
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    panel.widget.ui.findingsSelector.setCurrentNode(findings)
    return panel
