"""Tables of findings as people write them."""

from __future__ import annotations

import json

import pytest
from XTLLib.data.findings import read_findings, read_findings_csv
from XTLLib.data.tables import read_table
from XTLLib.errors import InputError

NOWHERE = '{"markups": [{"controlPoints": [{"label": "1", "position": [NaN, 0, 0]}]}]}'


def table(tmp_path, text: str, encoding: str = "utf-8"):
    path = tmp_path / "findings.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_positions_are_lps_in_the_table_and_ras_afterwards(tmp_path):
    path = table(tmp_path, "ProxID,fid,pos,zone,ClinSig\nProstateX-0000,1,25.7 31.8 -38.5,PZ,TRUE\n")
    ((patient, finding),) = read_findings_csv(path)
    assert patient == "ProstateX-0000"
    assert finding.position_ras == (-25.7, -31.8, -38.5)
    assert (finding.identifier, finding.zone, finding.significant) == ("1", "PZ", True)


@pytest.mark.parametrize(
    "text",
    [
        "ProxID,fid,pos,zone,ClinSig\nP,1,  1   2 3  , pz ,true\n",
        "ProxID;fid;pos;zone;ClinSig\r\nP;1;1 2 3;PZ;1\r\n\r\n",
        "\ufeffProxID\tfid\tpos\tzone\tClinSig\nP\t1\t1\u00a02 3\tPZ\tyes",
        'ProxID,fid,pos,zone,ClinSig,note\nP,1,"1 2 3",PZ,TRUE,"a\nb"\n,,,,,\n',
        "ProxID,fid,pos,zone,ClinSig\rP,1,1 2 3,PZ,TRUE\r",
    ],
)
def test_blanks_semicolons_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path, text):
    ((patient, finding),) = read_findings_csv(table(tmp_path, text))
    assert (patient, finding.position_ras, finding.zone, finding.significant) == ("P", (-1, -2, 3), "PZ", True)


def test_a_number_that_comes_twice_gives_two_findings_and_a_repeated_line_one(tmp_path):
    path = table(
        tmp_path,
        "ProxID,fid,pos,zone,ClinSig\nP,1,1 2 3,PZ,TRUE\nP,1,4 5 6,TZ,FALSE\nP,1,1 2 3,PZ,TRUE\nQ,1,1 2 3,AS,\n",
    )
    found = read_findings_csv(path)
    assert [(patient, f.identifier, f.significant) for patient, f in found] == [
        ("P", "1", True),
        ("P", "1-2", False),
        ("Q", "1", None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("ProxID,fid,pos\n", "has no findings"),
        ("ProxID,fid,position\nP,1,1 2 3\n", "no column pos .*Rename the column position to pos"),
        ("ProxID,pos\nP,1 2 3\n", "no column fid"),
        ("patient,r,a,s\nP,1,2,3\n", "no column finding"),
        ("ProxID,fid,pos\nP,1,1 2\n", r"line 2 has no three numbers in pos"),
        ("ProxID,fid,pos\nP,1,1 2 x\n", r"line 2 has no three numbers"),
        ("ProxID,fid,pos\nP,1,1 2 nan\n", r"line 2 has no three numbers"),
        ("finding,r,a,s\n1,1,,3\n", r"line 2 has no three numbers in r, a, s"),
        ("ProxID,fid,pos,zone\nP,1,1 2 3,XX\n", "zone 'XX'"),
        ("ProxID,fid,pos,ClinSig\nP,1,1 2 3,maybe\n", "'maybe' in ClinSig"),
        ("ProxID,fid,pos,ClinSig\nP,1,1 2 3,TRUE\nP,1,1 2 3,FALSE\n", "line 3 repeats .* line 2 with another truth"),
        ("ProxID,fid,pos\nP,1,1,2,3\n", "line 2 has 5 values for 3 columns"),
        ("ProxID,fid,fid,pos\nP,1,1,1 2 3\n", "column fid twice"),
        ("ProxID,fid,pos,zone\nP,1,1 2 3,PZ\nP,1,1 2 3,TZ\n", "line 3 repeats .* line 2 with another zone"),
        ("ProxID,fid,pos\n,1,1 2 3\n", "line 2 names no patient"),
        ("ProxID,fid,pos\nP,,1 2 3\n", "line 2 names no finding"),
        ("patient,finding,r,a,s\nP,1,1,2,3\n,2,1,2,3\n", "line 3 names no patient"),
        ("ProxID,fid,pos\nP,1,1 2 3\nP,1,4 5 6\nP,1-2,7 8 9\n", "both called P 1-2"),
        ("ProxID;fid;pos\nP;1;1,5 2,5 3,5\n", "line 2 has no three numbers"),
        ("ProxID,fid,pos\nP,1,1 2 1e9\n", "line 2 has no three numbers"),
        ("ProxID,fid,pos\nP,1,1 2 3" + 150000 * "x" + "\n", "line 2 .* no line of a table"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_findings_csv(table(tmp_path, text))
    assert "findings.csv" in str(caught.value)


def test_a_missing_or_binary_table_is_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(InputError, match="UTF-8"):
        read_table(table(tmp_path, "ProxID,fid,pos\nPé,1,1 2 3", "latin-1"))


def test_the_findings_of_one_patient(tmp_path):
    path = table(tmp_path, "patient,finding,r,a,s,zone\nP1,A,1,2,3,PZ\nP2,B,4,5,6,\n")
    (finding,) = read_findings(path, patient="P2")
    assert (finding.identifier, finding.position_ras, finding.zone) == ("B", (4, 5, 6), "")
    with pytest.raises(InputError, match="findings of 2 patients"):
        read_findings(path)
    with pytest.raises(InputError, match="patient P3"):
        read_findings(path, patient="P3")
    alone = table(tmp_path, "finding,r,a,s\nA,1,2,3\nB,4,5,6\n")
    assert len(read_findings(alone)) == 2


@pytest.mark.parametrize(("system", "expected"), [("LPS", (-1.0, -2.0, 3.0)), ("RAS", (1.0, 2.0, 3.0))])
def test_a_point_list_of_slicer(tmp_path, system, expected):
    points = [
        {"id": "1", "label": "F-1", "position": [1, 2, 3], "positionStatus": "defined"},
        {"id": "2", "label": "F-1", "position": [4, 5, 6]},
        {"id": "3", "label": "F-3", "position": [0, 0, 0], "positionStatus": "undefined"},
    ]
    path = tmp_path / "F.mrk.json"
    path.write_text(json.dumps({"markups": [{"coordinateSystem": system, "controlPoints": points}]}))
    found = read_findings(path)
    assert [finding.identifier for finding in found] == ["F-1", "F-1-2"]
    assert found[0].position_ras == expected


@pytest.mark.parametrize("words", ["PZ", "pz, left", "seen in the PZ (not TZ)"])
def test_the_description_of_a_point_tells_its_zone(tmp_path, words):
    points = [
        {"label": "1", "position": [1, 2, 3], "description": words},
        {"label": "2", "position": [4, 5, 6], "description": "same as before"},
    ]
    (tmp_path / "F.mrk.json").write_text(json.dumps({"markups": [{"controlPoints": points}]}))
    assert [finding.zone for finding in read_findings(tmp_path / "F.mrk.json")] == ["PZ", ""]


def test_a_file_that_is_no_point_list_is_told(tmp_path):
    for text in ("{", "[]", '{"markups": [{"controlPoints": [{"position": [1, 2]}]}]}', '{"markups": []}', NOWHERE):
        (tmp_path / "F.mrk.json").write_text(text)
        with pytest.raises(InputError, match=r"F\.mrk\.json"):
            read_findings(tmp_path / "F.mrk.json")
    with pytest.raises(InputError, match="does not exist"):
        read_findings(tmp_path / "gone.mrk.json")


@pytest.mark.real
def test_the_real_table_with_its_repeated_numbers(real_data):
    found = read_findings_csv(real_data / "prostate" / "prostatex_csv" / "ProstateX-Findings-Train.csv")
    assert len(found) == 269
    names = [(patient, finding.identifier) for patient, finding in found]
    assert len(set(names)) == len(names)
    of_0005 = {f.identifier: f.significant for patient, f in found if patient == "ProstateX-0005"}
    assert of_0005 == {"0": True, "1": True, "1-2": False}
