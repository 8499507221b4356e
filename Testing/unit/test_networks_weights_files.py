"""Weights files of every kind, whole, damaged and hostile."""

from __future__ import annotations

import argparse
import builtins
import io
import json
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from XTLLib.errors import InputError, MissingPackageError
from XTLLib.networks.state_files import read_state_file

torch.set_num_threads(1)


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "conv.bias": torch.randn(4, generator=generator).half(),
        "bn.num_batches_tracked": torch.tensor(7),
    }


def assert_read(path, tensors) -> None:
    read = read_state_file(path).tensors
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(read[name], value.float() if value.is_floating_point() else value, rtol=0, atol=0)


def test_torch_files_of_both_formats(tmp_path, tensors):
    torch.save(tensors, tmp_path / "new.pth")
    assert_read(tmp_path / "new.pth", tensors)
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_read(tmp_path / "old.pth", tensors)


def test_numpy_file_whatever_its_name(tmp_path, tensors):
    np.savez(tmp_path / "weights.npz", **{name: value.numpy() for name, value in tensors.items()})
    assert_read(tmp_path / "weights.npz", tensors)
    np.savez_compressed(tmp_path / "packed.npz", **{name: value.numpy() for name, value in tensors.items()})
    (tmp_path / "packed.npz").rename(tmp_path / "packed.pth")
    assert_read(tmp_path / "packed.pth", tensors)


def written_by_hand(tensors) -> bytes:
    """A .safetensors file by its public description: length of the header, JSON header, bytes."""
    kinds = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
    header, body = {}, b""
    for name, value in tensors.items():
        data = value.numpy().tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": kinds[value.dtype], "shape": list(value.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_safetensors_file(tmp_path, tensors):
    pytest.importorskip("safetensors")
    whole = written_by_hand(tensors)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(whole)
    assert_read(path, tensors)
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="is not a state dict"):
        read_state_file(path)
    path.write_bytes(whole.replace(b"[0, 432]", b"[0, 999]"))
    with pytest.raises(InputError, match="is not a state dict"):
        read_state_file(path)


def test_safetensors_file_without_the_package(tmp_path, tensors, monkeypatch):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(written_by_hand(tensors))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingPackageError, match=r"needs the Python package safetensors. Install safetensors"):
        read_state_file(path)


@pytest.mark.parametrize(
    ("wrap", "container"),
    [
        (lambda state: {"epoch": 3, "state_dict": state, "best": 0.5}, "state_dict"),
        (lambda state: {"model_state_dict": state}, "model_state_dict"),
        (lambda state: {"model": state, "args": argparse.Namespace(lr=0.1)}, "model"),
        (lambda state: {"student": {"a": torch.zeros(1)}, "teacher": state, "epoch": 1}, "teacher"),
        (lambda state: {"student": state}, "student"),
        (lambda state: {"model": {"state_dict": state, "step": 5}}, "model.state_dict"),
    ],
)
def test_checkpoint_around_a_state_dict(tmp_path, tensors, wrap, container):
    torch.save(wrap(tensors), tmp_path / "checkpoint.pth")
    assert read_state_file(tmp_path / "checkpoint.pth").container == container
    assert_read(tmp_path / "checkpoint.pth", tensors)


class Malice:
    """Unpickling it would call a function that the test can see."""

    def __reduce__(self):
        return (builtins.exec, ("import sys; sys.xtl_was_run = True",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not weights at all\n", "is not a state dict"),
        (b"", "is empty, not a state dict"),
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "is a web page, not a state dict"),
        (b"\n<HTML><body>Please log in</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer to a file in Git LFS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "is an HDF5 file"),
        (b"PK\x03\x04" + bytes(100), "is not a state dict"),
        (pickle.dumps(Malice(), protocol=2), "is not a state dict .it holds code or objects that are no tensors"),
        (pickle.dumps(Malice()), "is not a state dict"),
        ({"weights": Malice()}, "is not a state dict .it holds code or objects that are no tensors"),
        ({"state_dict": {"a": torch.zeros(1)}, "hook": Malice()}, "it holds code"),
        ([torch.zeros(3)], "holds a list, not a state dict"),
        ({}, "holds a dict, not a state dict"),
        ({"epoch": 3, "optimizer": {}}, "'epoch' is a int, not a tensor"),
        ({3: torch.zeros(1)}, "a name 3"),
        ({"\x1b[31mred": torch.zeros(1)}, r"a name '\\x1b\[31mred'"),
        ({"n" * 1000: torch.zeros(1)}, "a name 'nnn"),
        ({"features.0.weight": torch.tensor([1.0, float("nan")])}, r"not finite \(features.0.weight\)"),
        ({"features.0.weight": torch.tensor([1e300], dtype=torch.float64)}, r"not finite \(features.0.weight\)"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "'a' is no plain tensor of real numbers"),
        ({"a": torch.zeros(9).to_sparse()}, "'a' is no plain tensor"),
        ({"a": torch.zeros(9, device="meta")}, "'a' is no plain tensor"),
        ({"a": torch.zeros(1).expand(10**12)}, "'a' is no plain tensor"),  # 4 TB of one repeated value
    ],
)
def test_file_that_is_no_state_dict_is_refused(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as caught:
        read_state_file(path)
    assert str(path) in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert not hasattr(sys, "xtl_was_run")


def test_malice_would_work_if_it_were_run():
    pickle.loads(pickle.dumps(Malice()))
    assert sys.xtl_was_run
    del sys.xtl_was_run


def test_numpy_objects_are_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.array([Malice()], dtype=object))
    with pytest.raises(InputError, match="is not a state dict"):
        read_state_file(tmp_path / "weights.npz")
    np.savez(tmp_path / "weights.npz", a=np.array(["text"]))
    with pytest.raises(InputError, match="is not a state dict"):
        read_state_file(tmp_path / "weights.npz")
    assert not hasattr(sys, "xtl_was_run")


def test_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    whole = io.BytesIO()
    np.save(whole, np.zeros(5_000_000))
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", whole.getvalue())
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"it unpacks to 40 MB from 0.0 MB"):
        read_state_file(path)
    # the same in a torch file
    saved, packed = io.BytesIO(), tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(5_000_000)}, saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in source.infolist():
            archive.writestr(entry.filename, source.read(entry))
    with pytest.raises(InputError, match="it unpacks to 20 MB"):
        read_state_file(packed)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kind=st.sampled_from(["zip", "legacy", "npz"]), cut=st.floats(0, 0.999), flip=st.none() | st.integers(0, 10**6))
def test_damaged_file_is_read_or_refused_in_one_line(tmp_path, tensors, kind, cut, flip):
    """Cut anywhere, or one byte changed: never another error, never a tensor of another shape or name."""
    path = tmp_path / "damaged"
    whole = io.BytesIO()
    if kind == "npz":
        np.savez(whole, **{name: value.numpy() for name, value in tensors.items()})
    else:
        torch.save(tensors, whole, _use_new_zipfile_serialization=kind == "zip")
    content = bytearray(whole.getvalue())
    if flip is None:
        content = content[: int(cut * len(content))]
    else:
        content[flip % len(content)] ^= 0xFF
    path.write_bytes(content)
    try:
        read = read_state_file(path).tensors
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert flip is not None  # a cut file is never read
        assert all(isinstance(value, torch.Tensor) for value in read.values())


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickle_that_asks_for_memory_is_refused(tmp_path, is_zip):
    class Hoard:
        def __reduce__(self):
            return (bytearray, (10**12,))

    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1), "b": Hoard()}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(InputError, match="it holds code or objects that are no tensors"):
        read_state_file(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_state_file(tmp_path / "gone.pth")
