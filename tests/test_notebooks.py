"""examples/*.ipynb run from top to bottom, and are shown with what they gave."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def _read(file: Path) -> nbformat.NotebookNode:
    return nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call, no-any-return]


def test_there_are_notebooks_with_outputs_and_no_errors_in_them() -> None:
    assert len(NOTEBOOKS) == 5
    for file in NOTEBOOKS:
        cells = [cell for cell in _read(file).cells if cell.cell_type == "code"]
        kinds = {output.output_type for cell in cells for output in cell.outputs}
        assert kinds
        assert "error" not in kinds
        assert not re.search(r"/(tmp|home|root|Users|work)/", file.read_text("utf-8"))  # of the machine it ran on


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=[file.stem for file in NOTEBOOKS])
def test_it_runs_from_top_to_bottom(file: Path) -> None:
    resources = {"metadata": {"path": str(file.parent)}}
    NotebookClient(_read(file), timeout=900, kernel_name="python3", resources=resources).execute()
