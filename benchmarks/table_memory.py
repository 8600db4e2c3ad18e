"""Peak memory of a large table, from its file to training batches, in units of the table as float32.

    python benchmarks/table_memory.py [--rows 2000000] [--columns 20] [--format csv] [--format parquet]

A child process for each format imports what is needed, notes its memory, reads the table, splits it (40 % are tested),
and takes one pass over training and test batches. What is printed is its peak beyond that note.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

PART = 100_000
UNIT = 1024 if sys.platform != "darwin" else 1  # bytes of ru_maxrss


def write(path: Path, rows: int, columns: int) -> None:
    """Normal numbers of six digits, with labels, 1 % of them anomalies."""
    import pyarrow as pa
    import pyarrow.csv as pcsv
    import pyarrow.parquet as pq

    rng, writer = np.random.default_rng(0), None
    for start in range(0, rows, PART):
        n = min(PART, rows - start)
        frame = pd.DataFrame(rng.normal(size=(n, columns)).round(5), columns=[f"c{i}" for i in range(columns)])
        frame["label"] = (rng.random(n) < 0.01).astype(int)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        writer = writer or (pcsv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter)(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(path: Path) -> dict[str, float]:
    """In this process: bytes beyond what the imports took, and seconds of reading."""
    import adlightning as ad

    _ = ad.TableData, ad.NearestNeighbor
    small = path.with_name(f"small{path.suffix}")
    write(small, 1000, 3)
    ad.TableData(str(small), label_column="label").setup("fit")  # what is imported late
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    started = time.perf_counter()
    data = ad.TableData(str(path), label_column="label", batch_size=1000)
    data.setup("fit")
    seconds = time.perf_counter() - started
    peak_of_setup = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    n = sum(len(batch.x) for loader in (data.train_dataloader(), *data.test_dataloader()) for batch in loader)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    return {"before": before, "setup": peak_of_setup - before, "all": peak - before, "seconds": seconds, "samples": n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--format", action="append", choices=["csv", "parquet"])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measure(options.child)))
        return
    unit = options.rows * options.columns * 4
    print(f"{options.rows} x {options.columns}, {unit / 2**20:.0f} MiB as float32")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in options.format or ["csv", "parquet"]:
            path = Path(folder) / f"t.{suffix}"
            write(path, options.rows, options.columns)
            child = [sys.executable, __file__, "--child", str(path)]
            found = json.loads(
                subprocess.run(child, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            print(
                f"{suffix}: {found['setup'] / unit:.2f} times to set up in {found['seconds']:.0f} s, "
                f"{found['all'] / unit:.2f} times with the batches of training and test; "
                f"before it {found['before'] / 2**20:.0f} MiB"
            )
            path.unlink()


if __name__ == "__main__":
    main()
