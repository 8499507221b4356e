"""The extension configured and installed by cmake, with a stand-in of Slicer's macros, and run from where it landed.

The stand-in is Testing/cmake. No compiler is needed: the project has nothing to compile.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MODULES = ("XTLTransfer", "XTLSegment", "XTLClassify")
_BESIDE_PYTHON = Path(sys.executable).with_name("cmake.exe" if os.name == "nt" else "cmake")
CMAKE = str(_BESIDE_PYTHON) if _BESIDE_PYTHON.exists() else shutil.which("cmake")

pytestmark = pytest.mark.skipif(CMAKE is None, reason="cmake is not installed (it is part of the extra 'test')")


def configure(source: Path, build: Path) -> subprocess.CompletedProcess:
    """Run cmake on a source tree, with compilers that are never called."""
    options = [f"-DSlicer_DIR={PROJECT / 'Testing' / 'cmake'}"]
    for language in ("C", "CXX"):
        options += [f"-DCMAKE_{language}_COMPILER={CMAKE}", f"-DCMAKE_{language}_COMPILER_FORCED=ON"]
    command = [CMAKE, "-S", source, "-B", build, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def tracked(*folders: str) -> set[str]:
    """Files of the checkout that belong to it, relative to the project."""
    command = ["git", "ls-files", "--", *folders]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return {name for name in done.stdout.splitlines() if (PROJECT / name).is_file()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Prefix of an installed extension."""
    folder = tmp_path_factory.mktemp("extension")
    done = configure(PROJECT, folder / "build")
    assert done.returncode == 0, done.stderr
    command = [CMAKE, "--install", folder / "build", "--prefix", folder / "installed"]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    return folder / "installed"


@pytest.fixture(scope="module")
def flat(installed) -> Path:
    """The one folder in which Slicer looks for the scripted modules of this extension."""
    (folder,) = (installed / "lib").glob("Slicer-*/qt-scripted-modules")
    return folder


def test_every_file_of_the_modules_is_installed_and_nothing_else(flat):
    expected = {}
    for module in MODULES:
        for name in tracked(module):
            if not name.endswith("/CMakeLists.txt"):
                expected[name.removeprefix(f"{module}/")] = PROJECT / name
    resources = ("Resources/Chains", "Resources/Studies", "Resources/Terminologies", "Resources/Models.json")
    for name in tracked(*resources, "Resources/Models.schema.json"):
        assert name not in expected, f"{name} belongs to the extension and to a module"
        expected[name] = PROJECT / name
    found = {path.relative_to(flat).as_posix(): path for path in flat.rglob("*") if path.is_file()}
    assert set(found) == set(expected)
    changed = [name for name, path in found.items() if path.read_bytes() != expected[name].read_bytes()]
    assert changed == []


def test_slicer_takes_the_three_modules_for_modules_and_nothing_else(flat):
    """Each .py file at the top of the folder is tried as a module; packages below are left alone."""
    assert sorted(path.stem for path in flat.glob("*.py")) == sorted(MODULES)
    assert sorted(path.name for path in flat.iterdir() if path.is_dir()) == ["Resources", "XTLLib"]
    for package in {path.parent for path in (flat / "XTLLib").rglob("*.py")}:
        assert (package / "__init__.py").is_file(), package


def test_the_description_names_what_slicer_shows(installed):
    (path,) = installed.rglob("share/**/*.json")
    description = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem == description["name"] == "XTLTransferLearning"
    assert description["depends"] == "PyTorch"
    assert "not a medical device" in description["description"]


def test_the_self_tests_are_registered(tmp_path):
    done = configure(PROJECT, tmp_path / "build")
    assert done.returncode == 0, done.stderr
    listed = "".join(path.read_text() for path in (tmp_path / "build").rglob("CTestTestfile.cmake"))
    names = set(re.findall(r'add_test\((?:\[=*\[|")?(\w+)', listed))
    assert names == {f"py_{module}" for module in MODULES} | {
        f"py_nomainwindow_qSlicer{module}ModuleGenericTest" for module in MODULES
    }


def run_installed(flat: Path, code: str, home: Path) -> subprocess.CompletedProcess:
    """Python that finds the installed extension and the packages, and not the source: -S reads no .pth file."""
    packages = dict.fromkeys(sysconfig.get_paths()[key] for key in ("purelib", "platlib"))
    path = os.pathsep.join(map(str, (flat, *packages)))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "QT_QPA_PLATFORM": "offscreen"}
    environment |= {"XTL_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_all_of_the_library_is_imported_from_the_installed_folder(flat, tmp_path):
    code = f"""
import importlib, pathlib, sys
flat = pathlib.Path({str(flat)!r})
for path in sorted((flat / "XTLLib").rglob("*.py")):
    name = ".".join(path.relative_to(flat).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__) == path, module.__file__
from XTLLib.scene.wanted_packages import REQUIREMENTS
from XTLLib.bundle.catalogue import read_catalogue
assert REQUIREMENTS == flat / "Resources" / "XTLRequirements.txt" and REQUIREMENTS.is_file()
assert read_catalogue() is not None  # reads Resources/Models.json
assert not [p for p in sys.path if p.startswith({str(PROJECT / "XTL")!r})]
"""
    done = run_installed(flat, code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_module_passes_its_self_test_where_it_was_installed(flat, tmp_path):
    code = f"""
import pathlib, sys
flat = pathlib.Path({str(flat)!r})
sys.path.append({str(PROJECT / "Testing")!r})
import host.boot as boot
boot.folders.update(dict.fromkeys(boot.MODULES, flat))
boot.start()
for name in boot.MODULES:
    module = boot.load_module(name)
    assert pathlib.Path(sys.modules[name].__file__).parent == flat
    assert pathlib.Path(module.parent.icon).is_file()
    boot.open_panel(name).close()
import slicer, vtk, XTLLib
slicer.app.emit("startupCompleted()")
names = vtk.vtkStringArray()
slicer.modules.terminologies.logic().GetLoadedTerminologyNames(names)
assert "XTL lesion types" in [names.GetValue(n) for n in range(names.GetNumberOfValues())]
boot.load_module("XTLClassify").runTest(msec=0)
assert pathlib.Path(XTLLib.__file__).parent == flat / "XTLLib"
print("passed")
"""
    done = run_installed(flat, code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "passed"


# --- what cmake has to refuse ---------------------------------------------------------------------------


def copy_of_the_project(folder: Path) -> Path:
    """What cmake reads, without the library's content."""
    source = folder / "source"
    shutil.copytree(PROJECT / "Resources", source / "Resources")
    shutil.copy(PROJECT / "CMakeLists.txt", source)
    for module in MODULES:
        shutil.copytree(PROJECT / module, source / module, ignore=shutil.ignore_patterns("__pycache__"))
    return source


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  XTLClassify.py\n", "  XTLClassify.py\n  Lost.py\n", "no such file"),
        ("  XTLClassify.py\n", "  XTLClassify.py\n  ../XTLSegment/XTLSegment.py\n", "relative"),
        ("  XTLClassify.py\n", "  XTLClassify.py\n  XTLsegment.py\n", "overwrites"),
        ("  WITH_GENERIC_TESTS\n", "  WITH_GENERIC_TEST\n", "no such file"),
    ],
)
def test_the_stand_in_refuses_what_would_go_wrong_in_silence(tmp_path, old, new, said):
    source = copy_of_the_project(tmp_path)
    (source / "XTLClassify" / "XTLsegment.py").touch()
    lists = source / "XTLClassify" / "CMakeLists.txt"
    text = lists.read_text(encoding="utf-8")
    assert old in text
    lists.write_text(text.replace(old, new), encoding="utf-8")
    done = configure(source, tmp_path / "build")
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
