"""What DICOM headers say of a patient, of dates or of a place reaches no output and no log, unless it is asked for."""

from __future__ import annotations

import gzip
import logging
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prostate_studies import IDENTITY, place_ras, write_study
from XTLLib.cli import main
from XTLLib.data.datalist import Datalist, Entry
from XTLLib.data.findings import read_findings
from XTLLib.scene.self_test import write_classification_bundle

pytest.importorskip("slicer")
pytest.importorskip("highdicom")

# Anything planted begins with the first or is one of the dates, in any of the ways in which a program writes dates.
SECRETS = ["UNMISTAKABLE"]
for year, month, day in (("1953", "11", "17"), ("2013", "08", "22")):
    SECRETS += [f"{year}{month}{day}", f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{month}/{day}/{year}"]
SECRETS += ["112358", "11:23:58"]
# Unique identifiers that highdicom draws; those of the study, and what is made of them, are looked at.
DRAWN = re.compile(rb"1\.2\.826\.0\.1\.3680043\.10\.511\.3\.\d+")


def contents(file: Path, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of a file and of all that is packed in it, at any depth."""
    data = file.read_bytes()
    yield str(file.name), data
    if zipfile.is_zipfile(file):
        inside = folder / f"unpacked {file.name}"
        with zipfile.ZipFile(file) as archive:
            archive.extractall(inside)
        for one in sorted(inside.rglob("*")):
            if one.is_file():
                for name, packed in contents(one, inside):
                    yield f"{file.name}/{name}", packed
    if data[:2] == b"\x1f\x8b":
        yield f"{file.name} (unpacked)", gzip.decompress(data)


def revealed(out: Path, scratch: Path) -> set[str]:
    """file: secret, of everything in an output folder, names of files included."""
    found = set()
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        for name, data in contents(file, scratch / file.name):
            found |= {f"{name}: {secret}" for secret in SECRETS if holds(data, secret)}
        found |= {f"the name {file.name}" for secret in SECRETS if secret in str(file.relative_to(out))}
    return found


def holds(data: bytes, secret: str) -> bool:
    """Whether a secret stands in some bytes. Six digits stand in a number drawn by chance now and then: not there."""
    data = DRAWN.sub(b"", data)
    return any(secret.encode(code) in data for code in ("ascii", "utf-16-le", "utf-16-be"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A bundle, a study whose headers are full of names and dates, and a table of a finding."""
    folder = tmp_path_factory.mktemp("made")
    write_classification_bundle(folder / "bundle")
    write_study(folder / "study")
    r, a, s = place_ras(27, 20, 2)
    (folder / "findings.csv").write_text(f"finding,r,a,s\n1,{r},{a},{s}\n")
    return folder


def arguments(made: Path, out: Path, *more: str) -> list[str]:
    case = ["--study", str(made / "study"), "--findings", str(made / "findings.csv")]
    return ["classify", "--bundle", str(made / "bundle"), *case, "--out", str(out), "--device", "cpu", *more]


def test_the_secrets_are_in_the_headers_and_would_be_found(made, tmp_path):
    assert {text.split(": ")[1] for text in revealed(made / "study", tmp_path)} >= {
        "UNMISTAKABLE", "19531117", "20130822", "112358"
    }  # fmt: skip
    with zipfile.ZipFile(tmp_path / "scene.mrb", "w") as archive:
        archive.writestr("Scene/Data/t2.nrrd", gzip.compress(b"from 2013-08-22"))
    (tmp_path / "packed").mkdir()
    (tmp_path / "scene.mrb").rename(tmp_path / "packed" / "scene.mrb")
    assert revealed(tmp_path / "packed", tmp_path / "scratch") == {"scene.mrb/t2.nrrd (unpacked): 2013-08-22"}


def test_no_output_and_no_log_of_a_rating_tells_them(made, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    assert main(arguments(made, tmp_path / "out", "--evidence")) == 0
    assert {"report.dcm", "segmentation.dcm", "scene.mrb"} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert revealed(tmp_path / "out", tmp_path) == set()
    told = capfd.readouterr()
    for secret in SECRETS:
        assert secret not in told.out + told.err + caplog.text


def test_they_come_into_the_dicom_objects_alone_when_they_are_asked_for(made, tmp_path):
    import pydicom

    assert main(arguments(made, tmp_path / "out", "--keep-identity", "--progress", "none")) == 0
    assert {text.split(":")[0] for text in revealed(tmp_path / "out", tmp_path)} == {"report.dcm", "segmentation.dcm"}
    for name in ("report.dcm", "segmentation.dcm"):
        dataset = pydicom.dcmread(tmp_path / "out" / name)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber"):
            assert dataset[keyword].value == IDENTITY[keyword]


def test_no_output_of_a_cohort_tells_them(made, tmp_path, capfd):
    images = {"T2W": "t2_tse_tra", "ADC": "diff_ADC", "HBV": "diff_bval"}
    images = {name: str(made / "study" / folder) for name, folder in images.items()}
    (finding,) = read_findings(made / "findings.csv")
    entry = Entry("first", "first-1", images, 1, finding)
    Datalist("cohort", "csv", "classification", tuple(images), "T2W", {"0": "no", "1": "yes"}, training=(entry,)).save(
        made / "cases.json"
    )
    command = ["classify", "--bundle", str(made / "bundle"), "--datalist", str(made / "cases.json")]
    assert main([*command, "--out", str(tmp_path / "out"), "--device", "cpu", "--progress", "none"]) == 0
    assert (tmp_path / "out" / "first" / "report.dcm").is_file()
    assert revealed(tmp_path / "out", tmp_path) == set()
    told = capfd.readouterr()
    assert not any(secret in told.out + told.err for secret in SECRETS)


@pytest.mark.parametrize("damage", ["truncated", "odd date", "odd rescale", "two patients"])
def test_no_refusal_tells_them_not_even_with_its_traceback(tmp_path, made, damage):
    """In a process of its own: what pydicom warns and logs comes out there as it does for a user."""
    if damage == "odd date":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_study(tmp_path / "study", StudyDate="UNMISTAKABLE22")
    elif damage == "odd rescale":
        write_study(tmp_path / "study", RescaleSlope="-1")
    else:
        write_study(tmp_path / "study")
    if damage == "truncated":
        file = sorted((tmp_path / "study" / "t2_tse_tra").iterdir())[2]
        file.write_bytes(file.read_bytes()[:700])
    if damage == "two patients":
        write_study(tmp_path / "study" / "other", PatientID="UNMISTAKABLE-2", StudyInstanceUID="1.2.9")
    (tmp_path / "findings.csv").write_bytes((made / "findings.csv").read_bytes())
    (tmp_path / "bundle").symlink_to(made / "bundle")
    command = arguments(tmp_path, tmp_path / "out", "--progress", "none", "--debug")
    done = subprocess.run([sys.executable, "-m", "XTLLib.cli", *command], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if damage == "odd date" else 2), done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS), done.stderr
    if done.returncode == 0:
        assert revealed(tmp_path / "out", tmp_path) == set()
