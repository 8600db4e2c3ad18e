"""Pickles in checkpoints that torch's reader of plain values would follow: into memory, or to the interpreter's end."""

from __future__ import annotations

import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_cases import as_zip
from test_hostile_checkpoints import as_file, content_of

from adlightning.checkpoints.loading import read_checkpoint
from adlightning.methods.deep_svdd import DeepSVDD
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import StandardizeFeatures

START = b"\x80\x02"


def _content() -> dict[str, Any]:
    return content_of(DeepSVDD(encoder=partial(MLPEncoder, dense=[8], rep_dim=2), preprocessing=StandardizeFeatures))


def _named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _called(module: str, name: str, number: int) -> bytes:
    digits = pickle.encode_long(number)
    return START + _named(module, name) + b"\x8a" + bytes([len(digits)]) + digits + b"\x85R."


DEEP = b")" + b"\x85" * 100_000  # a tuple in a tuple in a tuple ...
PICKLES = {
    "bytes": _called("builtins", "bytearray", 2**45),
    "tensor": _called("torch", "FloatTensor", 2**45),
    "storage": _called("torch", "FloatStorage", 2**45),
    "untyped storage": _called("torch.storage", "UntypedStorage", 2**45),
    "new object": START + _named("torch", "Tensor") + b")\x81.",
    "key": START + b"}" + DEEP + b"Ns.",
    "keys": START + b"}(" + DEEP + b"Nu.",
    "kept key": START + b"}" + DEEP + b"q\x00Ns0h\x00.",
    "argument": START + _named("collections", "Counter") + b"]" + DEEP + b"a\x85R.",
    "attributes": START + _named("torch", "Size") + b"))R}b.",
    "nothing to take": START + b"s.",
    "unknown memory": START + b"h\x07.",
    "no end": START + b"]",
    "many steps": START + b"(" + b"N0" * 2_000_001 + b"t.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_are_gone_through_before_they_are_read(tmp_path: Path, name: str) -> None:
    whole = tmp_path / "whole.ckpt"
    whole.write_bytes(as_file(_content()))
    with zipfile.ZipFile(whole) as archive:
        members = [(member, archive.read(member)) for member in archive.namelist()]
    changed = [(member, PICKLES[name] if member.endswith("data.pkl") else content) for member, content in members]
    file = tmp_path / "changed.ckpt"
    file.write_bytes(as_zip(changed))
    with pytest.raises(ValueError, match=r"changed\.ckpt .* refused; (its pickle|its tuples|pickle exhausted)"):
        read_checkpoint(file)


def test_what_trainings_state_consists_of_is_read(tmp_path: Path) -> None:
    file = tmp_path / "more.ckpt"
    more = {
        "size": torch.Size([1, 2]),
        "types": [torch.float32, torch.bfloat16, torch.bool],
        "parameter": torch.nn.Parameter(torch.zeros(2)),
        "device": torch.device("cpu"),
        "half": torch.zeros(2, dtype=torch.float16),
        "long": 2**70,
    }
    file.write_bytes(as_file(_content() | {"more": more}))
    assert read_checkpoint(file)["more"]["size"] == torch.Size([1, 2])
