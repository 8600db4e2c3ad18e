"""Small files that unpack to much are refused, in a process whose memory is looked at."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bombs_in_child import FLOOR
from hostile_cases import as_zip, zeros_in_zip
from PIL import Image
from test_hostile_arrays import MATS, npy
from test_hostile_checkpoints import NETWORK, as_file
from test_hostile_images import png

MIB = 2**20
N = FLOOR // MIB + 1  # MiB, just above what any file may unpack to
SLACK = 192  # MiB: 256 rows of a text of 256 KiB, which are read before they can be counted, and their dictionary


def repeated_gzip(content: bytes, times: int) -> bytes:
    """A gzip may consist of several, one after the other."""
    return gzip.compress(content, mtime=0) * times


def repeated_zlib(mebibytes: int) -> bytes:
    """Zeros packed once; after a full flush the packed bytes can be repeated as often as one likes."""
    packer = zlib.compressobj(9)
    head = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + more * (mebibytes - 1)


def packed_npz() -> bytes:
    """An .npz whose member is zeros."""
    head = npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({N * MIB},)}}", b"")
    return zeros_in_zip("train_images.npy", head, N)


def parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, store_schema=False)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "a.npz").write_bytes(packed_npz())
    (folder / "a.csv.gz").write_bytes(repeated_gzip(b"0,1\n" * (4 * MIB), N // 16 + 1))
    packed = repeated_zlib(N)
    (folder / "a.mat").write_bytes(MATS[0][:128] + struct.pack("<II", 15, len(packed)) + packed)
    text = pa.DictionaryArray.from_arrays(np.zeros(1000, np.int32), ["x" * (MIB // 4)])
    parquet(folder / "text.parquet", pa.table({"a": np.arange(1000.0), "b": text}))
    parquet(folder / "rows.parquet", pa.table({str(i): np.zeros(MIB, np.int8) for i in range(20)}))
    (folder / "huge.png").write_bytes(png(2**31 - 1, 2**31 - 1))
    (folder / "wide.png").write_bytes(png(20_000, 20_000, depth=1))
    Image.new("L", (8000, 8000)).save(folder / "large.png")  # as large as an image may be, or nearly so
    record = ("archive/data/0", bytes(64 * MIB))
    with zipfile.ZipFile(folder / "packed.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr(*record)
    encoder = NETWORK["adlightning"]["hyperparameters"]["encoder"]
    encoder = encoder | {"init_args": encoder["init_args"] | {"dense": [10**5, 10**5]}}
    hyperparameters = NETWORK["adlightning"]["hyperparameters"] | {"encoder": encoder}
    claim = {**NETWORK, "adlightning": NETWORK["adlightning"] | {"hyperparameters": hyperparameters}}
    (folder / "claim.ckpt").write_bytes(as_file(claim))
    overlapping = as_zip([("archive/data.pkl", b"\x80\x02N.")]).replace(struct.pack("<I", 4), struct.pack("<I", 2**31))
    (folder / "lie.ckpt").write_bytes(overlapping)
    kinds = [("npz", "a.npz"), ("score_npz", "a.npz"), ("table", "a.csv.gz"), ("mat", "a.mat")]
    kinds += [("labelled", "text.parquet"), ("table", "rows.parquet"), ("image", "huge.png"), ("image", "wide.png")]
    kinds += [("checkpoint", f"{name}.ckpt") for name in ("packed", "claim", "lie")] + [("image", "large.png")]
    arguments = [word for kind, name in kinds for word in (kind, str(folder / name))]
    child = [sys.executable, str(Path(__file__).with_name("bombs_in_child.py")), *arguments]
    done = subprocess.run(
        child, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert all((folder / name).stat().st_size < 6 * MIB for _, name in kinds)
    return found


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("npz a.npz", "unpacks to more than 128 MiB"),
        ("score_npz a.npz", "unpacks to more than 128 MiB"),
        ("table a.csv.gz", "unpacks to more than 128 MiB"),
        ("mat a.mat", "unpacks to more than 64 MiB"),
        ("labelled text.parquet", "unpacks to more than 128 MiB"),
        ("table rows.parquet", "unpacks to more than 128 MiB"),
        ("image huge.png", "huge.png"),
        ("image wide.png", "pixels"),
        ("checkpoint packed.ckpt", "compressed parts"),
        ("checkpoint claim.ckpt", "weights do not fit"),
        ("checkpoint lie.ckpt", "larger than the whole"),
    ],
)
def test_bombs_are_refused_in_bounded_memory(outcome: dict[str, Any], file: str, words: str) -> None:
    assert words in outcome[file]["message"]
    assert outcome[file]["mib"] < (FLOOR // MIB + SLACK if "text" in file else SLACK)


def test_the_largest_image_takes_little_more_than_its_pixels(outcome: dict[str, Any]) -> None:
    assert outcome["image large.png"]["message"] is None
    assert outcome["image large.png"]["mib"] < 400  # twice four bytes a pixel would be 488
