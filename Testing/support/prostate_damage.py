"""Ways in which a prostate study and a table of findings can be damaged, drawn with a seed.

A study is ``dicom/{t2,adc,hbv}/*.dcm`` (slopes written as 1.000000, b-values of hbv in private tags) or
``picai/10000_1000000_{t2w,adc,hbv}.mha``, of SHAPE, beside ``findings.csv`` of LINES.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from dicom_series import COLUMNS, NORMAL, ORIGIN_LPS, ROWS, SPACING_MM
from pydicom.uid import generate_uid
from XTLLib.data.images import write_volume
from XTLLib.data.quiet_dicom import quiet_pydicom

SHAPE = (7, 24, 26)
SAME, ERROR, EITHER = "same", "error", "either"
Random = np.random.Generator


def lps(i: float, j: float, k: float) -> str:
    place = ORIGIN_LPS + i * SPACING_MM[0] * ROWS + j * SPACING_MM[1] * COLUMNS + k * SPACING_MM[2] * NORMAL
    return " ".join(f"{mm:.4f}" for mm in place)


LINES = (
    "ProxID,fid,pos,zone,ClinSig",
    f"P,1,{lps(13, 12, 3)},PZ,TRUE",
    f"P,2,{lps(10, 11, 2)},TZ,FALSE",
    f"P,2,{lps(15, 14, 4)},AS,FALSE",
    f"Q,1,{lps(12, 12, 3)},PZ,FALSE",
)


# --- damage to DICOM files --------------------------------------------------------------------


def files_of(folder: Path, series: str = "") -> list[Path]:
    return sorted((folder / series).rglob("*.dcm") if series else folder.rglob("*.dcm"))


def some(rng: Random, folder: Path) -> list[Path]:
    """One file, or a whole series."""
    files = files_of(folder, str(rng.choice(["t2", "adc", "hbv"])))
    return files if rng.random() < 0.5 else [files[rng.integers(len(files))]]


@quiet_pydicom()
def edit(file: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    dataset = pydicom.dcmread(file)
    change(dataset)
    dataset.save_as(file)


def truncate(rng: Random, folder: Path) -> None:
    file = rng.choice(files_of(folder))
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * rng.random())])


def wrong_rescale(rng: Random, folder: Path) -> None:
    value = rng.choice([b"0.000000", b"nan     ", b"-1.00000", b"abc     ", b"1e30    ", b"inf     ", b"1.0.0   "])
    for file in some(rng, folder):
        content = file.read_bytes()
        assert content.count(b"1.000000") == 1
        file.write_bytes(content.replace(b"1.000000", value))


def consistent_rescale(rng: Random, folder: Path) -> None:
    """Twice the slope for a whole series: ranks are what they were."""
    for file in files_of(folder, str(rng.choice(["t2", "adc", "hbv"]))):
        file.write_bytes(file.read_bytes().replace(b"1.000000", b"2.000000"))


def permuted(rng: Random, folder: Path) -> None:
    files = files_of(folder)
    for number, place in enumerate(rng.permutation(len(files))):
        edit(files[place], lambda dataset, number=number: setattr(dataset, "InstanceNumber", number))
        files[place].rename(folder / f"IM{number:04d}{rng.choice(['', '.dcm', '.IMA'])}")


TAGS = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "SeriesInstanceUID", "SOPInstanceUID",
    "SeriesDescription", "ImageType", "StudyInstanceUID", "BitsAllocated", "PixelData", "PixelRepresentation",
    "AcquisitionTime", "SeriesNumber", "SliceThickness", "PatientID",
)  # fmt: skip


def missing_tag(rng: Random, folder: Path) -> None:
    tag = str(rng.choice(TAGS))
    for file in some(rng, folder):
        edit(file, lambda dataset: dataset.pop(pydicom.datadict.tag_for_keyword(tag), None))


def missing_b_value(rng: Random, folder: Path) -> None:
    files = files_of(folder, "hbv")
    for file in files if rng.random() < 0.3 else rng.choice(files, rng.integers(1, 4), replace=False):
        edit(file, lambda dataset: dataset.pop((0x0019, 0x100C)))


def copied_series(rng: Random, folder: Path) -> None:
    """The same files again, as they are or sent anew under other UIDs."""
    name = str(rng.choice(["t2", "adc", "hbv"]))
    shutil.copytree(folder / name, folder / f"{rng.choice(['a', 'z'])}_copy")
    if rng.random() < 0.5:
        uid = generate_uid()
        for file in next(folder.glob("*_copy")).glob("*.dcm"):

            def renew(dataset: pydicom.Dataset) -> None:
                dataset.SeriesInstanceUID = uid
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()

            edit(file, renew)


def copied_slice(rng: Random, folder: Path) -> None:
    file = rng.choice(files_of(folder))
    if file.parent.name == "hbv":  # of the b-value that is not read, a copy does no harm
        file = files_of(folder, "hbv")[-1]
    copy = file.with_name("copy.dcm")
    shutil.copy(file, copy)
    edit(copy, lambda dataset: setattr(dataset, "SOPInstanceUID", generate_uid()))


def lost_slice(rng: Random, folder: Path) -> None:
    """Neither the first nor the last of a stack; of the diffusion series any of the higher b-value."""
    name = str(rng.choice(["t2", "adc", "hbv"]))
    files = files_of(folder, name)
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    if name == "hbv":
        rng.choice([f for f, header in zip(files, headers) if header[0x0019, 0x100C].value == b"800 "]).unlink()
        return
    along = np.argsort([np.dot(header.ImagePositionPatient, NORMAL) for header in headers])
    files[along[rng.integers(1, len(files) - 1)]].unlink()


def wrong_directions(rng: Random, folder: Path) -> None:
    kind = rng.integers(3)
    values = np.array([*ROWS, *COLUMNS])
    if kind == 0:
        values[3:] += 0.3 * ROWS  # not at right angles
    elif kind == 1:
        values *= 2
    else:
        values[:3] = 0
    for file in some(rng, folder):
        edit(file, lambda dataset: setattr(dataset, "ImageOrientationPatient", [f"{x:.6f}" for x in values]))


def wrong_spacing(rng: Random, folder: Path) -> None:
    value = [["0", "0"], ["-0.9", "0.7"], ["0.9"], ["900", "700"]][rng.integers(4)]
    for file in some(rng, folder):
        edit(file, lambda dataset: setattr(dataset, "PixelSpacing", value))


def wrong_pixels(rng: Random, folder: Path) -> None:
    keyword, value = [
        ("BitsAllocated", 8),
        ("BitsAllocated", 32),
        ("SamplesPerPixel", 3),
        ("Rows", 25),
        ("Columns", 99),
    ][rng.integers(5)]
    for file in some(rng, folder):
        edit(file, lambda dataset: setattr(dataset, keyword, value))


def foreign_files(rng: Random, folder: Path) -> None:
    (folder / "t2" / "notes.txt").write_text("SECRET")
    (folder / "adc" / "DICOMDIR").write_bytes(rng.bytes(200))
    (folder / "hbv" / "thumbs").write_bytes(rng.bytes(500))


def garbage(rng: Random, folder: Path) -> None:
    head = b"\0" * 128 + b"DICM" if rng.random() < 0.5 else b""
    (folder / str(rng.choice(["t2", "adc", "hbv"])) / "x.dcm").write_bytes(head + rng.bytes(int(rng.integers(0, 3000))))


def two_patients(rng: Random, folder: Path) -> None:
    for file in some(rng, folder):
        edit(file, lambda dataset: setattr(dataset, "PatientID", "SECRETOTHER"))


# --- damage to MetaImages ---------------------------------------------------------------------


def one_mha(rng: Random, folder: Path) -> Path:
    return rng.choice(sorted(folder.glob("*.mha")))


def edit_header(file: Path, key: str, value: str) -> None:
    content = file.read_bytes()
    changed, count = re.subn(rf"(?m)^{key} = .*$".encode(), f"{key} = {value}".encode(), content, count=1)
    assert count == 1
    file.write_bytes(changed)


def not_a_number(rng: Random, folder: Path) -> None:
    from XTLLib.data.images import read_volume
    from XTLLib.data.volume import Volume

    file = one_mha(rng, folder)
    volume = read_volume(file)
    array = volume.array.astype(np.float32)
    array[tuple(rng.integers(0, SHAPE))] = rng.choice([np.nan, np.inf, -np.inf])
    write_volume(Volume(array, volume.grid), file)


def skewed(rng: Random, folder: Path) -> None:
    matrix = [
        "1 0 0 0.3 1 0 0 0 1",
        "2 0 0 0 2 0 0 0 2",
        "0 0 0 0 0 0 0 0 0",
        "1 0 0 1 0 0 0 0 1",
        "nan 0 0 0 1 0 0 0 1",
    ]
    edit_header(one_mha(rng, folder), "TransformMatrix", matrix[rng.integers(5)])


def wrong_header(rng: Random, folder: Path) -> None:
    choices = [
        ("ElementSpacing", "0 0 0"),
        ("ElementSpacing", "nan 1 1"),
        ("Offset", "nan 0 0"),
        ("Offset", "900 900 900"),
        ("DimSize", "26 24"),
        ("ElementType", "MET_DUCK"),
        ("NDims", "7"),
    ]
    edit_header(one_mha(rng, folder), *choices[rng.integers(len(choices))])


def truncated_mha(rng: Random, folder: Path) -> None:
    file = one_mha(rng, folder)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * rng.random())])


def lost_mha(rng: Random, folder: Path) -> None:
    one_mha(rng, folder).unlink()


def two_studies(rng: Random, folder: Path) -> None:
    shutil.copy(folder / "10000_1000000_t2w.mha", folder / f"1000{rng.integers(1, 9)}_1000001_t2w.mha")


def no_adc(rng: Random, folder: Path) -> None:
    from XTLLib.data.images import read_volume
    from XTLLib.data.volume import Volume

    file = folder / "10000_1000000_adc.mha"
    volume = read_volume(file)
    write_volume(Volume(volume.array * np.float32(rng.choice([1e6, 1e-9, -1, 0])), volume.grid), file)


# --- damage to tables -------------------------------------------------------------------------


def as_people_write(rng: Random, folder: Path) -> None:
    """Any mixture of what spreadsheets do to a table."""
    delimiter, end = str(rng.choice([",", ";", "\t"])), str(rng.choice(["\n", "\r\n", "\r"]))
    lines = []
    for line in LINES:
        cells = line.split(",")
        if rng.random() < 0.5:
            cells = [f"  {cell} " for cell in cells]
        if rng.random() < 0.5:
            cells = [re.sub(" ", "   ", cell) for cell in cells]
        if rng.random() < 0.3:
            cells = [f'"{cell.strip()}"' for cell in cells]
        lines.append(delimiter.join(cells))
        lines += [str(rng.choice(["", "  ", delimiter * 4]))] * int(rng.integers(0, 3))
        if rng.random() < 0.3 and line != LINES[0]:
            lines.append(delimiter.join(line.split(",")))
    mark = b"\xef\xbb\xbf" if rng.random() < 0.5 else b""
    (folder / "findings.csv").write_bytes(mark + end.join([*lines, ""]).encode())


def other_columns(rng: Random, folder: Path) -> None:
    """Columns in another order, and more of them."""
    order = rng.permutation(5)
    rows = [[cells[place] for place in order] + ["x"] for cells in (line.split(",") for line in LINES)]
    rows[0][-1] = "note"
    (folder / "findings.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")


def wrong_cell(rng: Random, folder: Path) -> None:
    rows = [line.split(",") for line in LINES]
    row, column = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    position = str(
        rng.choice(["nan nan nan", "1 2", "1 2 3 4", "a b c", "", "1,2,3", "1e9 0 0", "900 900 900", "inf 1 1"])
    )
    rows[row][column] = ["", "", position, "QZ", "perhaps"][column]
    (folder / "findings.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")


def wrong_table(rng: Random, folder: Path) -> None:
    text = "\n".join(LINES) + "\n"
    contradiction = LINES[1].replace("TRUE", "FALSE") + "\n"
    contents = [
        b"",
        b"\n\n",
        (LINES[0] + "\n").encode(),
        "\n".join(LINES[1:]).encode(),
        text.encode("utf-16"),
        text.replace("PZ", "PZ\u00e9").encode("latin-1"),
        text.replace("P,1", "P,1\0").encode(),
        (text + contradiction).encode(),
        text.replace("P,", "R,").encode(),
        text.replace("pos", "position").encode(),
        text.replace("ClinSig", "zone").encode(),
        text.replace(",TRUE", ",TRUE,,extra").encode(),
        text.replace("P,1", '"P,1').encode(),
        rng.bytes(300),
    ]
    (folder / "findings.csv").write_bytes(contents[rng.integers(len(contents))])


def cut_table(rng: Random, folder: Path) -> None:
    """Cut within the lines of the patient: where it is within a line, it has to be noticed."""
    text = "\n".join(LINES[:4])
    at = int(rng.integers(len(LINES[0]) + 2, len(text)))
    while (
        text[at - 1] == "\n"
        or text[at : at + 1] == "\n"
        or text[:at].endswith((",TRUE", ",FALSE", "PZ,", "TZ,", "AS,"))
    ):
        at -= 1
    (folder / "findings.csv").write_text(text[:at])


CASES: dict[Callable[[Random, Path], None], tuple[str, str, int]] = {
    # damage: what it is done to, what has to come of it, how many draws
    truncate: ("dicom", EITHER, 12),
    wrong_rescale: ("dicom", EITHER, 14),
    consistent_rescale: ("dicom", SAME, 3),
    permuted: ("dicom", SAME, 5),
    missing_tag: ("dicom", EITHER, 24),
    missing_b_value: ("dicom", ERROR, 4),
    copied_series: ("dicom", SAME, 8),
    copied_slice: ("dicom", ERROR, 4),
    lost_slice: ("dicom", ERROR, 5),
    wrong_directions: ("dicom", ERROR, 6),
    wrong_spacing: ("dicom", ERROR, 6),
    wrong_pixels: ("dicom", EITHER, 8),
    foreign_files: ("dicom", SAME, 2),
    garbage: ("dicom", ERROR, 4),
    two_patients: ("dicom", ERROR, 4),
    not_a_number: ("picai", ERROR, 4),
    skewed: ("picai", ERROR, 8),
    wrong_header: ("picai", ERROR, 10),
    truncated_mha: ("picai", ERROR, 6),
    lost_mha: ("picai", ERROR, 3),
    two_studies: ("picai", ERROR, 1),
    no_adc: ("picai", ERROR, 4),
    as_people_write: ("", SAME, 12),
    other_columns: ("", SAME, 3),
    wrong_cell: ("", ERROR, 12),
    wrong_table: ("", ERROR, 20),
    cut_table: ("", ERROR, 10),
}
