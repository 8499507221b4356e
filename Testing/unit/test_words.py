"""What is said to the user begins and ends as a sentence does."""

from __future__ import annotations

import pytest
from XTLLib.scene.words import in_sentences


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("the volume is empty. Choose another one",), "The volume is empty. Choose another one."),
        (("2 lesions, in 0.9 s", "T1 was moved", "Removed: T2."), "2 lesions, in 0.9 s. T1 was moved. Removed: T2."),
        (("/data/ms is not a folder",), "/data/ms is not a folder."),
        (("data/ms is not a folder",), "data/ms is not a folder."),
        (("", "one"), "One."),
        ((), ""),
    ],
)
def test_texts_become_sentences(texts, said):
    assert in_sentences(*texts) == said
