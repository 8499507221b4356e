"""``SampleData``: keeps what is registered; nothing is downloaded.

Names and parameters are those of Slicer 5.12.3 (Modules/Scripted/SampleData/SampleData.py); a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

_sources: dict[str, list[SimpleNamespace]] = {}


class SampleDataLogic:
    """The static methods that extensions use."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Sequence[str] | str | None = None,
        fileNames: Sequence[str] | str | None = None,
        nodeNames: Sequence[str] | str | None = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = {},  # noqa: B006 - as Slicer has it
        checksums: Sequence[str] | str | None = None,
        loadFileType: Any = None,
    ) -> None:
        source = SimpleNamespace(**locals())
        # Slicer's own class raises for lists of different lengths, and for None (it takes their length).
        assert len(uris) == len(fileNames) == len(nodeNames), "all lists of a source have one length"
        assert checksums is None or len(checksums) == len(uris)
        _sources.setdefault(category, []).append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        return _sources if category is None else _sources.get(category, [])


def click(source: SimpleNamespace) -> Any:
    """What the Sample Data module does when the button of a source is clicked."""
    return source.customDownloader(source)
