"""What is said of failures, and that nothing of a patient is in what may be told to the public."""

from __future__ import annotations

import errno

import pytest
from XTLLib.errors import Cancelled, InputError, MissingPackageError, XTLError
from XTLLib.failures import KINDS, anonymous_lines, explain

PLANTED = "ZEBRAFISH^JOHN"


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


def elsewhere(code: str) -> XTLError:
    error = XTLError("it stopped", "Try again")
    error.code = code
    return error


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MissingPackageError("x", "y"), "missing package"),
        (ModuleNotFoundError("No module named 'monai'", name="monai"), "missing package"),
        (MemoryError(), "memory"),
        (OutOfMemoryError("CUDA out of memory"), "memory"),
        (elsewhere("memory"), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk full"),
        (caused(XTLError("out.nrrd cannot be written", "y"), OSError(errno.ENOSPC, "no space")), "disk full"),
        (elsewhere("disk"), "disk full"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "no permission"),
        (elsewhere("died"), "worker died"),
        (InputError("x", "y"), "input"),
        (Cancelled("x"), "cancelled"),
        (XTLError("x", "y"), "failed"),
        (elsewhere("internal"), "unexpected"),
        (ZeroDivisionError(), "unexpected"),
    ],
)
def test_kinds_are_told_apart(error, kind):
    failure = explain(error)
    assert failure.kind == kind
    for sentence in (failure.what, failure.why, failure.remedy):
        assert sentence
        assert not sentence.endswith(".")
        assert "Traceback" not in sentence
    assert failure.line == f"{failure.what}. {failure.remedy}."
    assert failure.why in failure.paragraphs


def test_every_kind_is_reached_and_has_words_of_its_own():
    kinds = [mark.args[1][n][1] for mark in test_kinds_are_told_apart.pytestmark for n in range(len(mark.args[1]))]
    assert set(kinds) == set(KINDS)


def test_an_error_of_ours_keeps_its_own_words():
    failure = explain(InputError("the volume FLAIR has no voxels", "Choose another volume"))
    assert (failure.what, failure.remedy) == ("The volume FLAIR has no voxels", "Choose another volume")


def test_what_may_be_told_names_no_file_and_no_patient(tmp_path):
    """Errors of the library raised for planted names: the fixed words stay, the names do not."""
    from XTLLib.bundle.load import read_bundle
    from XTLLib.data.images import read_volume

    place = tmp_path / PLANTED / "case.nii.gz"
    place.parent.mkdir()
    place.write_text("no image")
    for call in (lambda: read_volume(place), lambda: read_bundle(place.parent), lambda: read_bundle(place)):
        with pytest.raises(XTLError) as caught:
            call()
        assert PLANTED in str(caught.value)
        lines = anonymous_lines(caught.value)
        assert PLANTED not in "\n".join(lines)
        assert str(tmp_path) not in "\n".join(lines)
        assert lines[0].startswith("InputError: ")
        assert "…" in lines[0]
        assert any(line.startswith("  at XTLLib/") for line in lines)


def test_of_an_error_from_elsewhere_only_type_and_place_are_told():
    with pytest.raises(ValueError) as caught:
        int(f"{PLANTED}")
    assert anonymous_lines(caught.value)[0] == "ValueError"
    assert PLANTED not in "\n".join(anonymous_lines(caught.value))


def test_the_system_s_errors_are_told_without_their_file(tmp_path):
    with pytest.raises(OSError) as caught:
        (tmp_path / PLANTED).read_text()
    assert anonymous_lines(caught.value)[0] == "FileNotFoundError: No such file or directory"
    assert PLANTED not in "\n".join(anonymous_lines(caught.value))


def test_words_that_a_library_gave_to_an_error_of_the_system_are_not_told():
    try:
        raise FileNotFoundError(errno.ENOENT, f"no scan of {PLANTED}", f"/data/{PLANTED}")
    except OSError as error:
        lines = anonymous_lines(error)
    assert lines[0] == "FileNotFoundError: No such file or directory"
    assert PLANTED not in "\n".join(lines)


def test_a_script_of_the_user_s_is_not_named(tmp_path):
    """Neither its file nor its functions; what it called is."""
    script = tmp_path / "zebrafish_john.py"
    script.write_text("import json\n\ndef zebrafish():\n    json.loads('{')\n")
    names: dict = {}
    exec(compile(script.read_text(), str(script), "exec"), names)
    with pytest.raises(ValueError) as caught:
        names["zebrafish"]()
    lines = anonymous_lines(caught.value)
    assert lines[0] == "JSONDecodeError"
    assert "  at …" in lines
    assert any(line.startswith("  at decoder.py:") for line in lines)
    assert "zebrafish" not in "\n".join(lines)


def test_causes_are_told_too():
    with pytest.raises(XTLError) as caught:
        try:
            raise KeyError(PLANTED)
        except KeyError as error:
            raise XTLError("x", "y") from error
    lines = anonymous_lines(caught.value)
    assert [line for line in lines if not line.startswith(" ")] == ["XTLError", "KeyError"]


def test_lines_of_another_process_are_passed_on():
    error = InputError("a", "b")
    error.anonymous = ("InputError: the channel … is empty",)
    assert "  there: InputError: the channel … is empty" in anonymous_lines(error)
