"""Small files that took much time or memory to refuse: long lines, long numbers, sparse files, one array many times."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile_cases import as_zip
from test_hostile_checkpoints import as_file, content_of

from adlightning.checkpoints.loading import read_checkpoint
from adlightning.core.parts import class_path
from adlightning.data.sources import SourceError, Table
from adlightning.data.sources.mat_file import read_matrices
from adlightning.data.sources.table_file import MOST_COLUMNS
from adlightning.files.plain_yaml import MAX_BYTES, MAX_VALUES, read_yaml
from adlightning.files.text import LONGEST_LINE
from adlightning.methods.goad import GOAD
from adlightning.networks.goad import GOADEncoder
from adlightning.preprocessing import StandardizeFeatures
from adlightning.shallow.kernel import GaussianKDE
from adlightning.shallow.persistence import from_bytes, to_bytes


@pytest.mark.parametrize("place", ["header", "row"])
@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_line_of_millions_of_fields(tmp_path: Path, place: str, end: str) -> None:
    file = tmp_path / "t.csv.gz"
    with gzip.open(file, "wt", compresslevel=1, newline="") as opened:
        opened.write(f"a,b{end}1,2{end}" if place == "row" else "")
        opened.write("," * (LONGEST_LINE + 1) + end)
    with pytest.raises(SourceError, match=r"t\.csv\.gz has a line of more than 16 MiB"):
        Table(str(file)).load("train")


def test_many_columns(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("," * MOST_COLUMNS + "\n1\n")
    with pytest.raises(SourceError, match=f"has {MOST_COLUMNS + 1} columns, a table may have {MOST_COLUMNS}"):
        Table(str(file)).load("train")


def test_long_tables_of_short_lines_are_read(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n" + "1.25,2.5\n0,1\n" * 200_000)
    samples = Table(str(file)).load("train")
    assert samples is not None
    assert len(samples.x) == 400_000


@pytest.mark.parametrize(
    "text",
    ["a: 1" + ":1" * 10**6, "[" + "a," * (MAX_VALUES + 1) + "]", "a: '" + "x" * MAX_BYTES + "'"],
    ids=["base 60", "many values", "long"],
)
def test_documents_that_take_long(text: str) -> None:
    with pytest.raises(ValueError, match="at most"):
        read_yaml(text, "it")


def test_numbers_as_before() -> None:
    assert read_yaml("[1, 0x1F, -3, 1_000]", "it") == [1, 31, -3, 1000]


def test_a_sparse_mat_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "s.mat"
    with file.open("wb") as opened:
        opened.write(b"MATLAB 5.0".ljust(124) + b"\0\1IM")
        opened.truncate(2**40)
    with pytest.raises(SourceError, match=r"s\.mat has 1048576 MiB, a \.mat file must have at most 64"):
        read_matrices(file, ["X"])


def test_an_array_that_is_named_many_times_is_read_once() -> None:
    kde = GaussianKDE(np.random.default_rng(0).random((2**16, 3)), 1.0)
    with zipfile.ZipFile(io.BytesIO(to_bytes(kde).numpy().tobytes())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema: dict[str, Any] = json.loads(members["schema.json"])
    values = schema["content"]["content"]
    values["more"] = {
        "__class__": "list",
        "__module__": "builtins",
        "__loader__": "ListNode",
        "content": [values["samples"]] * 100,
    }
    members["schema.json"] = json.dumps(schema).encode()
    data = torch.frombuffer(bytearray(as_zip(list(members.items()))), dtype=torch.uint8)
    tracemalloc.start()
    try:
        found = from_bytes(data, GaussianKDE, 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found.samples, kde.samples)
    assert peak < 10 * data.numel()


def test_arguments_for_which_a_network_has_no_end(tmp_path: Path) -> None:
    content = content_of(GOAD(preprocessing=StandardizeFeatures))
    endless = {"class_path": class_path(GOADEncoder), "init_args": {"n_layers": 2**40}}
    content["adlightning"]["hyperparameters"]["encoder"] = endless
    (tmp_path / "a.ckpt").write_bytes(as_file(content))
    with pytest.raises(ValueError, match="describe more weights than it holds"):
        read_checkpoint(tmp_path / "a.ckpt")
