"""The entry for Slicer's index of extensions, and what it has to agree with.

The rules are those that the index checks when an entry is proposed (its schema 1.0.1 and its script), written down
here: the schema itself is other people's, and tests do not ask the network.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

PROJECT = Path(__file__).resolve().parents[2]
NAME = "XTLTransferLearning"
ENTRY = PROJECT / "Resources" / f"{NAME}.json"
CMAKE = (PROJECT / "CMakeLists.txt").read_text(encoding="utf-8")
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
TYPES = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
REQUIRED = {"$schema", "category", "scm_url"}
LARGEST_PICTURE_BYTES = 1 << 20
LARGEST_REPOSITORY_BYTES = 100 << 20


def problems_of(entry: dict) -> list[str]:
    """What the index would refuse in an entry."""
    problems = [f"{key} is missing" for key in sorted(REQUIRED - set(entry))]
    for key, value in entry.items():
        if key not in TYPES:
            problems.append(f"{key} is not known")
        elif type(value) is not TYPES[key]:
            problems.append(f"{key} is a {type(value).__name__}")
    if problems:
        return problems
    url = urlsplit(entry["scm_url"])
    repository = url.path.strip("/").split("/")[-1].removesuffix(".git")
    checks = {
        "$schema": entry["$schema"] == SCHEMA,
        "scm_url's scheme": url.scheme in ("https", "git") and bool(url.netloc),
        "the repository's name": repository.startswith("Slicer"),
        "scm_type": entry.get("scm_type", "git") in ("git", "local"),
        "tier": 1 <= entry.get("tier", 1) <= 5,
        "build_dependencies": all(isinstance(name, str) for name in entry.get("build_dependencies", [])),
        "category": entry["category"] in {"Segmentation", "Quantification", "Neuroimaging", "Analysis"},
    }
    return [key for key, good in checks.items() if not good]


def variable(name: str) -> str:
    """The text that CMakeLists.txt gives a variable."""
    return re.search(rf'set\({name} "([^"]*)"\)', CMAKE).group(1)


def test_the_entry_is_one_that_the_index_takes():
    raw = ENTRY.read_bytes()
    assert b"\r" not in raw
    entry = json.loads(raw)
    assert problems_of(entry) == []
    assert list(entry) == sorted(entry), "keys are sorted, as in all entries of the index"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tier": 6}, "tier"),
        ({"tier": "1"}, "tier is a str"),
        ({"scm_url": "https://example.org/XTL.git"}, "the repository's name"),
        ({"scm_url": "/home/somebody/SlicerXTL"}, "scm_url's scheme"),
        ({"depends": "PyTorch"}, "depends is not known"),
        ({"category": "Transfer learning"}, "category"),
        ({"build_dependencies": [1]}, "build_dependencies"),
    ],
)
def test_the_rules_refuse_what_the_index_refuses(change, said):
    assert problems_of(json.loads(ENTRY.read_bytes()) | change) == [said]


def test_entry_and_cmake_agree():
    entry = json.loads(ENTRY.read_bytes())
    assert re.search(r"project\((\w+)\)", CMAKE).group(1) == ENTRY.stem == NAME
    assert not NAME.lower().startswith("slicer")
    assert entry["build_dependencies"] == variable("EXTENSION_DEPENDS").split()
    assert entry["build_subdirectory"] == "."
    assert (PROJECT / "LICENSE").is_file()


def test_the_addresses_of_pictures_are_those_of_files():
    """Below the homepage, or below the raw address of a branch, the path is that of the file in the repository."""
    addresses = [variable("EXTENSION_ICONURL"), *variable("EXTENSION_SCREENSHOTURLS").split()]
    assert len(addresses) >= 4
    for address in addresses:
        assert address.startswith("https://")
        path = PROJECT / "Resources" / address.partition("/Resources/")[2]
        assert path.is_file(), address
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size <= LARGEST_PICTURE_BYTES


def test_all_addresses_are_placeholders_of_one_kind_until_there_is_a_home():
    """Half a move would leave an index entry that points at one place and pictures at another."""
    entry = json.loads(ENTRY.read_bytes())
    addresses = [entry["scm_url"], variable("EXTENSION_HOMEPAGE"), variable("EXTENSION_ICONURL")]
    addresses += variable("EXTENSION_SCREENSHOTURLS").split()
    placeholders = {urlsplit(address).netloc == "example.org" for address in addresses}
    assert len(placeholders) == 1, addresses


def test_icons_have_the_size_and_transparency_of_icons():
    from PIL import Image

    icons = [
        "Resources/XTL.png",
        *(f"{m}/Resources/Icons/{m}.png" for m in ("XTLTransfer", "XTLSegment", "XTLClassify")),
    ]
    for name in icons:
        with Image.open(PROJECT / name) as picture:
            assert picture.size == (128, 128), name
            assert picture.mode == "RGBA", name
            assert picture.getpixel((0, 0))[3] == 0, f"{name}: the corner is transparent"
            small = picture.resize((16, 16), Image.Resampling.LANCZOS).convert("L")
            low, high = small.getextrema()
            assert high - low > 120, f"{name} has too little contrast to be read at 16 pixels"


def test_the_repository_is_small_enough_for_the_index():
    """Without .git, environments and what is built; the index looks at a fresh clone."""
    skipped = {".git", ".venv", "build", "shared", ".pytest_cache", ".ruff_cache", ".hypothesis", "__pycache__"}
    total = 0
    for top in PROJECT.iterdir():
        if top.name in skipped:
            continue
        files = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
        total += sum(path.stat().st_size for path in files if not skipped & set(path.parts))
    assert total < LARGEST_REPOSITORY_BYTES / 2
