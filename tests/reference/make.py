"""Write what the references give to `expected.json`: `python tests/reference/make.py`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reference import adgan, ama, density_ratio, drocc, hypersphere

METHODS: tuple[Any, ...] = (density_ratio, hypersphere, ama, drocc, adgan)
FILE = Path(__file__).with_name("expected.json")


def made() -> dict[str, Any]:
    """What each case gives, by its name."""
    return {case: asdict(method.expected(case)) for method in METHODS for case in method.CASES}


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1) + "\n")
