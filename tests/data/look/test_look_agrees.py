"""A look stops what a table's source refuses and nothing else, and what it proposes is read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from adlightning.data.look.findings import Look, Said
from adlightning.data.look.table import look_at_tables
from adlightning.data.sources.table import Table

FILES = {
    "spaces": "a,b\n 1, 2\n3 ,4\n5,6.5\n",
    "signs": "a,b\n+1,2\n-3,4e2\n5,.5\n",
    "quotes": 'a,b\n"1",2\n"3","4"\n5,"6"\n',
    "booleans": "a,b\nTrue,1\nFalse,2\nTrue,4\n",
    "booleans with a gap": "a,b\nTrue,1\n,2\nFalse,4\n",
    "NAN": "a,b\nNAN,1\n2,2\n3,5\n",
    "infinity": "a,b\nInfinity,1\n2,2\n3,5\n",
    "empty lines": "a,b\n\n1,2\n\n3,5\n",
    "a separator at the end": "a,b,\n1,2,\n3,5,\n4,4,\n",
    "a short row": "a,b\n1,2\n3\n4,5\n",
    "a long row": "a,b\n1,2\n3,4,5\n4,5\n",
    "CRLF": "a,b\r\n1,2\r\n3,5\r\n",
    "CR": "a,b\r1,2\r3,5\r",
    "a mark": "\ufeffa,b\n1,2\n3,5\n",
    "Excel": "sep=;\na;b\n1;2\n3;5\n",
    "commas": "a;b\n1,5;2\n3,5;5\n",
    "both marks": "a;b\n1,5;2.5\n3,5;5.5\n4,5;7.5\n",
    "thousands": 'a,b\n"1,000",2\n"2,500",5\n"3,500",7\n',
    "too large": "a,b\n1e39,2\n1e400,3\n2,5\n",
    "19 digits": "a,b\n9223372036854775807,2\n1,3\n2,5\n",
    "20 digits": "a,b\n92233720368547758070,2\n1,3\n2,5\n",
    "a line in a cell": 'a,b\n"1\n",2\n3,5\n4,7\n',
    "counted names": "0,1\n1,2\n3,5\n4,7\n",
    "no header": "5,6\n1,2\n3,5\n4,7\n",
    "no name": "a,\n1,2\n3,5\n4,7\n",
    "a space for a name": "a, \n1,2\n3,5\n4,7\n",
    "twins": "a,a\n1,2\n3,5\n",
    "one column": "a\n1\n3\n5\n",
    "a constant": "a,b\n1,2\n1,3\n1,4\n",
    "a constant with gaps": "a,b\nnull,2\nNone,5\n4,7\n",
    "constants": "a,b\n1,2\n1,2\n1,2\n",
    "text": "a,b\nx,2\ny,3\nx,4\n",
    "text and numbers": "a,b\n-,2\n1,3\n0x10,4\n",
    "dates": "a,b\n2024-01-01,2\n2024-01-02,3\n2024-01-03,4\n",
    "a gap": "a,b\nNA,2\n1,3\n2,4\n",
    "labels": "a,label\n1,0\n2,0\n3,1\n",
    "labels with a space": "a,Label \n1,0\n2,0\n3,1\n",
    "classes": "a,class\n1,x\n2,y\n3,z\n",
    "two classes": "a,class\n1,1\n2,2\n3,1\n",
    "a minus of typography": "a,b\n\u22121,2\n3,5\n4,7\n",
}
DECIDED = {"missing": "median", "categorical": "one_hot", "dates": "seconds", "constant_features": "drop"}


def refusal(path: Path, options: dict[str, Any]) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Table(str(path), **options).load("train")
    except ValueError as error:
        return str(error)
    return None


def proposed(look: Look, options: dict[str, Any]) -> dict[str, Any]:
    found = look.options
    if "header" in found:
        found["header"] = found["header"] == "true"
    return {**options, **found}


@pytest.mark.parametrize("options", [{}, DECIDED], ids=["nothing said", "much said"])
@pytest.mark.parametrize("name", FILES)
def test_the_look_and_the_source_agree(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(FILES[name].encode())
    look = look_at_tables(path, None, Said.of(options))
    assert look.blocks == (refusal(path, options) is not None)
    if not look.faults:
        assert refusal(path, proposed(look, options)) is None
