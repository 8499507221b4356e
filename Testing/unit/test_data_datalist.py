"""Datalists: by patient, readable by MONAI, and refused when something is wrong with them."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from XTLLib.data.case import Finding
from XTLLib.data.datalist import PARTS, Datalist, Entry, digest_of_image
from XTLLib.errors import InputError

any_split = settings(max_examples=60, deadline=None)


def datalist_of(labels_of_patients: list[list[int]], name: str = "toy") -> Datalist:
    """One entry a label, images that need not exist."""
    entries = [
        Entry(f"P{number:03d}", f"P{number:03d}-{place}", {"T2W": "/t2", "ADC": "/adc"}, label, Finding("1", (0, 0, 0)))
        for number, labels in enumerate(labels_of_patients)
        for place, label in enumerate(labels)
    ]
    return Datalist(
        name, "csv", "classification", ("T2W", "ADC"), "T2W", {"0": "no", "1": "yes"}, training=tuple(entries)
    )


cohorts = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=4), min_size=4, max_size=40)


def parts_of_patients(datalist: Datalist) -> dict[str, set[str]]:
    return {part: {entry.patient for entry in getattr(datalist, part)} for part in PARTS}


def patient_labels(datalist: Datalist) -> dict[str, int]:
    worst: dict[str, int] = {}
    for entry in datalist.entries:
        worst[entry.patient] = max(entry.label, worst.get(entry.patient, 0))
    return worst


@any_split
@given(cohorts, st.floats(0, 0.3), st.floats(0, 0.3), st.integers(0, 99))
def test_no_patient_stands_in_two_parts_and_no_entry_is_lost(cohort, validation, test, seed):
    whole = datalist_of(cohort)
    split = whole.split(validation, test, seed)
    parts = parts_of_patients(split)
    assert sum(len(patients) for patients in parts.values()) == len(whole.patients())
    assert Counter(e.case for e in split.entries) == Counter(e.case for e in whole.entries)
    assert bool(parts["validation"]) == (validation > 0)
    assert bool(parts["test"]) == (test > 0)
    assert parts["training"]


@any_split
@given(cohorts, st.floats(0.1, 0.5), st.integers(0, 99))
def test_a_part_is_stratified_on_the_patients_worst_label(cohort, fraction, seed):
    split = datalist_of(cohort).split(validation=0, test=fraction, seed=seed)
    worst = patient_labels(split)
    tested = parts_of_patients(split)["test"]
    share = len(tested) / len(worst)
    positives = sum(worst.values())
    assert abs(len(tested) - fraction * len(worst)) <= 0.5 or len(tested) == 1
    assert abs(sum(worst[patient] for patient in tested) - share * positives) < 1


@any_split
@given(cohorts, st.integers(2, 4), st.integers(0, 99))
def test_folds_are_patient_grouped_cover_everybody_once_and_are_balanced(cohort, k, seed):
    whole = datalist_of(cohort)
    folds = whole.folds(k, seed)
    assert len(folds) == k
    held = [parts_of_patients(fold)["test"] for fold in folds]
    assert sorted(patient for patients in held for patient in patients) == list(whole.patients())
    worst = patient_labels(whole)
    for counts in ([len(p) for p in held], [sum(worst[one] for one in p) for p in held]):
        assert max(counts) - min(counts) <= 1
    for fold in folds:
        parts = parts_of_patients(fold)
        assert not parts["validation"]
        assert not parts["training"] & parts["test"]
        assert parts["training"] | parts["test"] == set(whole.patients())


@any_split
@given(cohorts, st.integers(0, 99))
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_files(cohort, seed):
    whole = datalist_of(cohort)
    reversed_files = Datalist(**{**whole.__dict__, "training": whole.training[::-1]})
    for one, other in zip(whole.folds(2, seed), reversed_files.folds(2, seed)):
        assert parts_of_patients(one) == parts_of_patients(other)
    assert parts_of_patients(whole.split(0.3, 0.3, seed)) == parts_of_patients(reversed_files.split(0.3, 0.3, seed))


@any_split
@given(cohorts, st.floats(0, 0.3), st.integers(0, 99))
def test_a_split_without_a_test_part_keeps_the_one_that_is_there(cohort, validation, seed):
    official = datalist_of([*cohort, [0], [1]]).split(0.2, 0.3, seed=1)
    split = official.split(validation, 0.0, seed)
    assert split.test == official.test
    assert bool(split.validation) == (validation > 0)
    assert {entry.case for entry in split.entries} == {entry.case for entry in official.entries}


def test_different_seeds_differ():
    whole = datalist_of([[0], [1]] * 20)
    tests = {frozenset(parts_of_patients(whole.split(0, 0.3, seed))["test"]) for seed in range(5)}
    assert len(tests) == 5


@any_split
@given(cohorts, st.integers(0, 99))
def test_holding_out_moves_training_patients_only(cohort, seed):
    fold = datalist_of([*cohort, [0], [1]]).folds(2, seed)[0]
    held = fold.hold_out(0.3, seed)
    before, after = parts_of_patients(fold), parts_of_patients(held)
    assert after["test"] == before["test"]
    assert after["validation"]
    assert after["training"]
    assert after["training"] | after["validation"] == before["training"]
    assert held.test == fold.test


@pytest.mark.parametrize(
    "act",
    [
        lambda d: d.split(0.5, 0.6),
        lambda d: d.split(1.0),
        lambda d: d.folds(4),
        lambda d: d.folds(1),
        lambda d: d.folds(3)[0].hold_out(0.9),
    ],
)
def test_a_split_that_patients_do_not_suffice_for_is_refused(act):
    with pytest.raises(InputError):
        act(datalist_of([[0], [1], [1]]))


@pytest.fixture
def written(tmp_path):
    """A segmentation datalist of six patients with files, saved in the folder of its images' parent."""
    entries = []
    for number in range(6):
        files = {}
        for name in ("FLAIR", "T1", "mask1", "mask2"):
            path = tmp_path / "images" / f"{number}_{name}.nii"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{number} {name}")
            files[name] = str(path)
        images = {name: files[name] for name in ("FLAIR", "T1")}
        entries.append(
            Entry(
                f"P{number // 2}",
                f"C{number}",
                images,
                files["mask1"],
                attributes={"raters": "union"},
                further_masks=(files["mask2"],),
            )
        )
    datalist = Datalist(
        "heads",
        "csv",
        "segmentation",
        ("FLAIR", "T1"),
        "FLAIR",
        {"0": "background", "1": "lesion"},
        "CC BY",
        tuple(entries),
        description="six scans",
    ).split(0.3, 0.3)
    datalist.save(tmp_path / "datalist.json")
    return tmp_path / "datalist.json", datalist


def test_what_is_saved_comes_back(written):
    path, datalist = written
    assert Datalist.load(path) == datalist


def test_a_moved_folder_is_still_whole_because_paths_inside_it_are_relative(written, tmp_path):
    path, datalist = written
    before = datalist.content_hash()
    assert str(tmp_path) not in path.read_text()
    path.parent.joinpath("elsewhere").mkdir()
    path.parent.joinpath("images").rename(path.parent / "elsewhere" / "images")
    moved = path.rename(path.parent / "elsewhere" / "datalist.json")
    assert Datalist.load(moved).content_hash() == before


def test_files_elsewhere_are_named_absolutely(written, tmp_path):
    _, datalist = written
    datalist.save(tmp_path / "new" / "datalist.json")
    assert Datalist.load(tmp_path / "new" / "datalist.json") == datalist
    document = json.loads((tmp_path / "new" / "datalist.json").read_text())
    assert document["training"][0]["image"][0].startswith(tmp_path.as_posix())


@pytest.mark.parametrize("part", PARTS)
def test_monai_reads_it(written, part):
    from monai.data import load_decathlon_datalist

    path, datalist = written
    items = load_decathlon_datalist(str(path), is_segmentation=True, data_list_key=part)
    expected = getattr(datalist, part)
    assert [item["image"] for item in items] == [list(entry.images.values()) for entry in expected]
    assert [item["label"] for item in items] == [entry.label for entry in expected]
    document = json.loads(path.read_text())
    assert document["modality"] == {"0": "FLAIR", "1": "T1"}
    assert document["numTraining"] == len(datalist.training)
    assert "by patient" in document["xtl"]["split"]


def test_monai_reads_findings_and_one_file_of_all_channels(tmp_path):
    from monai.data import load_decathlon_datalist

    (tmp_path / "patches.npz").write_text("")
    images = dict.fromkeys(("T2W", "ADC"), str(tmp_path / "patches.npz"))
    finding = Finding("1", (1.5, -2.0, 3.0), "PZ", True)
    entry = Entry("P1", "P1-1", images, 1, finding, 7, {"zone": "PZ"})
    labels = {"0": "no", "1": "yes"}
    datalist = Datalist("p", "csv", "classification", ("T2W", "ADC"), "T2W", labels, training=(entry,))
    datalist.save(tmp_path / "d.json")
    assert Datalist.load(tmp_path / "d.json").training == (entry,)
    (item,) = load_decathlon_datalist(str(tmp_path / "d.json"), is_segmentation=False)
    assert item["image"] == str(tmp_path / "patches.npz")
    assert (item["label"], item["row"], item["finding"]["position_ras"]) == (1, 7, [1.5, -2.0, 3.0])


def test_the_hash_follows_content_and_not_names_of_folders_or_time(written):
    import os

    path, datalist = written
    before = datalist.content_hash()
    flair = next(iter(datalist.training[0].images.values()))
    os.utime(flair, (1, 1))
    assert Datalist.load(path).content_hash() == before
    with open(flair, "a") as stream:
        stream.write("!")
    assert Datalist.load(path).content_hash() != before
    assert datalist.split(0.3, 0.3, seed=5).content_hash() != datalist.content_hash()


def test_files_that_are_gone_are_counted_and_the_first_are_named(written):
    path, datalist = written
    for entry in datalist.entries[:5]:
        (path.parent / "images" / f"{entry.case[1]}_FLAIR.nii").unlink()
    with pytest.raises(InputError, match=r"datalist\.json names 5 of 24 files that do not exist: .*FLAIR.* and 2 more"):
        Datalist.load(path)


def spoil(path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def put_training_patient_into_test(document) -> None:
    document["test"].append({**document["training"][0], "case": "again"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put_training_patient_into_test, r"patient P\d in two parts \(training and test\)"),
        (lambda d: d["training"].append(d["training"][0]), "twice"),
        (lambda d: d["training"][1].pop("patient"), r"training\[1\] has no patient"),
        (lambda d: d["training"][0].update(patientt=d["training"][0].pop("patient")), "Did you mean patient"),
        (lambda d: d["training"][0]["image"].pop(), "1 images for 2 channels"),
        (lambda d: d["training"][0].update(image=[1, 2]), "path that is not text"),
        (lambda d: d["training"][0].update(label=1), "has no mask"),
        (lambda d: d["validation"][0].pop("label"), "has no mask"),
        (lambda d: d.pop("validation"), "no validation"),
        (lambda d: d.pop("xtl"), "no xtl"),
        (lambda d: d["xtl"].update(task="lorem"), "task lorem"),
        (lambda d: d["xtl"].update(reference="T9"), "reference channel T9"),
        (lambda d: d.update(training=[], validation=[], test=[]), "no entries"),
        (lambda d: d.update(training=["a.nii"]), "not an object"),
        (lambda d: d.update(training={}), "wrong kind"),
    ],
)
def test_a_spoilt_datalist_is_refused_naming_the_file(written, change, message):
    path, _ = written
    spoil(path, change)
    with pytest.raises(InputError, match=message) as caught:
        Datalist.load(path)
    assert str(path) in str(caught.value)


def test_what_is_no_datalist_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Datalist.load(tmp_path / "gone.json")
    (tmp_path / "broken.json").write_text('{"name": "x",\n "training": [}')
    with pytest.raises(InputError, match=r"broken\.json, line 2, is not JSON"):
        Datalist.load(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match=r"list\.json"):
        Datalist.load(tmp_path / "list.json")
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(InputError, match="UTF-8"):
        Datalist.load(tmp_path / "latin.json")


@pytest.mark.parametrize("label", [None, 2, "mask.nii", True])
def test_a_classification_label_is_0_or_1(label):
    entry = Entry("P", "C", {"T2W": "/x"}, label)
    with pytest.raises(InputError, match="label"):
        Datalist("d", "csv", "classification", ("T2W",), "T2W", {}, training=(entry,))


def test_only_a_test_case_may_be_unlabelled():
    entry = Entry("P", "C", {"T2W": "/x"})
    assert Datalist("d", "csv", "classification", ("T2W",), "T2W", {}, test=(entry,)).test == (entry,)


def films(task: str, labels: dict[str, str], *given, **attributes) -> Datalist:
    entries = [
        Entry(f"P{number}", f"C{number}", {"MG": __file__}, label, attributes=attributes)
        for number, label in enumerate(given)
    ]
    return Datalist("d", "csv", task, ("MG",), "MG", labels, training=tuple(entries))


def test_a_mammogram_classification_has_as_many_classes_as_it_names(tmp_path):
    datalist = films("mammogram-classification", {"0": "fatty", "1": "glandular", "2": "dense"}, 0, 2, 1)
    assert datalist.classes == ("fatty", "glandular", "dense")
    datalist.save(tmp_path / "d.json")
    assert Datalist.load(tmp_path / "d.json") == datalist
    assert json.loads((tmp_path / "d.json").read_text())["tensorImageSize"] == "2D"
    with pytest.raises(InputError, match=r"C0 has the label 3\. Give one of 0 to 2"):
        films("mammogram-classification", dict(datalist.labels), 3)
    for labels in ({"0": "one"}, {"1": "a", "2": "b"}, {"0": "a", "01": "b"}, {"a": "0", "b": "1"}):
        with pytest.raises(InputError, match="has the labels"):
            films("mammogram-classification", labels, 0)
    with pytest.raises(InputError, match=r"has the labels 0, 1, 2\. Name the classes of volumes 0 and 1"):
        Datalist("d", "csv", "classification", ("T2W",), "T2W", dict(datalist.labels))


def test_the_number_of_classes_counts_for_the_hash_only_when_there_are_more_than_two():
    names = {"0": "a", "1": "b", "2": "c", "3": "d"}
    first = films("mammogram-classification", {"0": "a", "1": "b"}, 0, 1)
    hashes = [films("mammogram-classification", dict(list(names.items())[:n]), 0, 1).content_hash() for n in (2, 3, 4)]
    assert len({first.content_hash(), *hashes}) == 3
    assert films("mammogram-classification", {}, 0, 1).content_hash() == first.content_hash()


def test_unlabelled_entries_have_no_label_in_any_part(tmp_path):
    datalist = films("unlabelled", {}, None, None, None).split(0.3, 0.3)
    assert datalist.classes == ()
    assert datalist.has_mammograms
    datalist.save(tmp_path / "d.json")
    assert Datalist.load(tmp_path / "d.json") == datalist
    volumes = Datalist("d", "csv", "unlabelled", ("T1",), "T1", {}, training=(Entry("P", "C", {"T1": "/x"}),))
    assert not volumes.has_mammograms
    with pytest.raises(InputError, match="the datalist is unlabelled"):
        films("unlabelled", {}, 0)


def test_mammogram_segmentation_takes_masks_marks_or_their_absence():
    films("mammogram-segmentation", {}, "/mask.png", 0)
    films("mammogram-segmentation", {}, 1, circles_px="1 2 3")
    for label, attributes in ((1, {}), (0, {"circles_px": "1 2 3"}), (None, {}), (True, {"circles_px": "1 2 3"})):
        with pytest.raises(InputError, match="neither a mask nor marks"):
            films("mammogram-segmentation", {}, label, **attributes)


def test_another_content_of_the_voxels_beside_a_header_is_another_hash(tmp_path):
    header, voxels = tmp_path / "k.mhd", tmp_path / "k.zraw"
    header.write_text("ElementDataFile = k.zraw\n")
    voxels.write_bytes(b"one")
    before = digest_of_image(header)
    voxels.write_bytes(b"other")
    (tmp_path / "k2.zraw").write_bytes(b"of another header")
    assert digest_of_image(header) != before
    voxels.unlink()
    assert digest_of_image(header) == digest_of_image(header) != before
