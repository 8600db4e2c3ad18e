"""Ask a running server for the scores of image files, or of the rows of a CSV file.

python client.py http://127.0.0.1:8000 photo.png other.png
python client.py http://127.0.0.1:8000 rows.csv
"""

from __future__ import annotations

import base64
import csv
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def ask(server: str, files: list[Path]) -> dict[str, Any]:
    """Scores, p-values, verdicts and the threshold."""
    if files[0].suffix == ".csv":
        with files[0].open(newline="") as opened:
            rows = [[float(value) for value in row.values()] for row in csv.DictReader(opened)]
        content: dict[str, Any] = {"rows": rows}
    else:
        content = {"images": [base64.b64encode(file.read_bytes()).decode() for file in files]}
    request = urllib.request.Request(
        f"{server}/predict", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            said: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"refused: {error.read().decode()}") from error
    return said


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], [Path(name) for name in sys.argv[2:]]), indent=2))
