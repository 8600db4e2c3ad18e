"""Tables of text as programs write them are read right, and said; what may be meant in two ways is refused."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adlightning.core.contracts import InputSpec
from adlightning.data.own_samples import read_samples
from adlightning.data.sources import SourceError, Table
from adlightning.files.dialects import Dialect, Given, find_dialect
from adlightning.files.text import Undecided

FRAME = pd.DataFrame({"größe": [1.5, -2.25, 300.0, 0.125], "b": [7, 8, 9, 7], "label": [0, 1, 0, 0]})


def write(path: Path, content: str | bytes, name: str = "t.csv") -> Path:
    file = path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def values(path: Path, **options: object) -> list[list[float]]:
    samples = Table(str(path), label_column="label", **options).load("train")  # type: ignore[arg-type]
    assert samples is not None
    assert isinstance(samples.x, torch.Tensor)
    assert samples.y.tolist() == FRAME["label"].tolist()
    return samples.x.tolist()


# ---- found and said --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_separators_and_decimal_marks(tmp_path: Path, separator: str, decimal: str, name: str) -> None:
    """As pandas writes them; commas in both places come with quotes."""
    text = FRAME.to_csv(index=False, sep=separator, decimal=decimal)
    if separator == decimal == ",":
        text = "\n".join(_quoted_first(line) if i else line for i, line in enumerate(_comma_rows()))
    path = write(tmp_path, text, name)
    expected = separator == ("," if name == "t.csv" else "\t") and decimal == "."
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert values(path) == FRAME[["größe", "b"]].to_numpy().tolist()
    words = " ".join(str(warning.message) for warning in said)
    assert ("is read with" in words) != expected
    assert ("commas in numbers" in words) == (decimal == ",")


def _comma_rows() -> list[str]:
    return FRAME.to_csv(index=False).splitlines()


def _quoted_first(line: str) -> str:
    first, rest = line.split(",", 1)
    return f'"{first.replace(".", ",")}",{rest}'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("zipped", [False, True])
def test_encodings(tmp_path: Path, encoding: str, zipped: bool) -> None:
    content = FRAME.to_csv(index=False).encode(encoding)
    path = write(tmp_path, gzip.compress(content) if zipped else content, "t.csv.gz" if zipped else "t.csv")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table = Table(str(path), label_column="label")
        assert table.input_spec().features == ("größe", "b")
    assert bool(said) == (encoding not in ("utf-8", "utf-8-sig"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is given is not said
        assert Table(str(path), label_column="label", encoding=encoding).input_spec().features == ("größe", "b")


def test_the_line_that_excel_reads(tmp_path: Path) -> None:
    path = write(tmp_path, "sep=;\na;b;label\n1,5;2;0\n2,5;3;1\n")
    assert find_dialect(path) == Dialect(";", ",", "utf-8", True, 1, ("semicolons between values", "commas in numbers"))
    with pytest.warns(UserWarning, match="semicolons between values, commas in numbers"):
        samples = Table(str(path), label_column="label").load("train")
    assert samples is not None
    assert samples.x[:, 0].tolist() == [1.5, 2.5]  # type: ignore[index]


def test_text_with_separators_in_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, 'id;a;label\n"x,y;z";1;0\n"u,v;w\n2";2;1\n')
    with pytest.warns(UserWarning, match="semicolons"):
        samples = Table(str(path), label_column="label", name_column="id").load("train")
    assert samples is not None
    assert samples.names == ("x,y;z", "u,v;w\n2")


def test_what_a_detector_scores_is_found_too(tmp_path: Path) -> None:
    spec = InputSpec("table", (2,), features=("a", "b"))
    with pytest.warns(UserWarning, match="is read with semicolons between values, commas in numbers"):
        x = read_samples(write(tmp_path, "b;a\n1,5;2\n3,5;4\n"), spec).x
    assert x[:].tolist() == [[2.0, 1.5], [4.0, 3.5]]  # type: ignore[index]
    bare = write(tmp_path, "2 1.5\n4 3.5\n", "u.csv")
    numbered = InputSpec("table", (2,), features=("0", "1"))
    assert read_samples(bare, numbered, given=Given(separator="space", header=False)).x[:].tolist()[0] == [2.0, 1.5]  # type: ignore[index]


# ---- may be meant in two ways ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "option", "words"),
    [
        ("1.5,2\n3.5,4\n", "header", "its first row holds numbers only ('1.5', '2'); say header=false"),
        ("1,5;2,5\n3,5;4,5\n", "header", "its first row holds numbers only"),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", "header", "values of the rows below ('setosa' in '5.1', '3.5', 'setosa')"),
        ("5.1,3.5,a1\n4.9,3.0,a2\n", "header", "numbers for the most part"),
        ("a;b\n1,234;2\n12,500;4\n", "decimal", "'1,234', which may be 1.234 or 1234: say decimal=comma"),
        ("a;b\n1,5;2.5\n2,5;4\n", "decimal", "numbers such as '1,5' and '2.5': say decimal"),
        ("a\n1,5\n2,5\n", "separator", "say separator=semicolon"),
        ("a b\n1 2\n3 4\n", "separator", "looks separated by spaces: say separator=space"),
        ("имя,b\n1,2\n".encode("cp1251"), "encoding", "is not UTF-8 (byte 0xe8 at 0): say encoding, such as"),
        ("a,b\n日本,2\n".encode("shift_jis"), "encoding", "is not UTF-8"),
    ],
)
def test_what_may_be_meant_otherwise_names_the_option(
    tmp_path: Path, content: str | bytes, option: str, words: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(Undecided) as caught:
        find_dialect(path)
    assert caught.value.option == option
    assert words in str(caught.value)
    with pytest.raises(SourceError) as refused:
        Table(str(path)).load("train")
    assert words in str(refused.value)
    choice = caught.value.choices[0]
    find_dialect(path, Given(**{option: False if choice == "false" else choice}, **_next(option, content)))  # type: ignore[arg-type]


def _next(option: str, content: str | bytes) -> dict[str, str]:
    """The other option that such a file needs."""
    return {"decimal": "comma"} if option == "separator" and content == "a\n1,5\n2,5\n" else {}


def test_without_a_header_columns_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "1.5,2,normal\n3.5,4,anomaly\n5.5,3,normal\n")
    table = Table(str(path), label_column="2", header=False)
    samples = table.load("train")
    assert samples is not None
    assert samples.x[:].tolist() == [[1.5, 2.0], [3.5, 4.0], [5.5, 3.0]]  # type: ignore[index]
    assert (table.input_spec().features, samples.y.tolist()) == (("0", "1"), [0, 1, 0])
    ragged = write(tmp_path, "1,2\n3,4,5\n", "r.csv")
    with pytest.raises(SourceError, match="row 1 has 3 fields, the first row has 2"):
        Table(str(ragged), header=False).load("train")


@pytest.mark.parametrize(
    "header", ["name,2019,2020", "400.5,401.0,401.5,label", "1e5,007,null,a", "0,1,2", "a,a1,b", "x,1.5,y"]
)
def test_names_that_are_numbers_stay_names(tmp_path: Path, header: str) -> None:
    n = header.count(",") + 1
    rows = "".join(",".join(str(i + j) for j in range(n)) + "\n" for i in range(3))
    assert find_dialect(write(tmp_path, f"{header}\n{rows}")).names(tmp_path / "t.csv") == header.split(",")


def test_a_header_that_is_said_is_taken(tmp_path: Path) -> None:
    assert Table(str(write(tmp_path, "1.5,2\n3.5,4\n4,5\n")), header=True).input_spec().features == ("1.5", "2")


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("separator", "::", "separator must be auto, comma, semicolon, tab, bar, space or one character, got '::'"),
        ("separator", "a", "one character, got 'a'"),
        ("decimal", ";", "decimal must be auto, point or comma, got ';'"),
        ("header", "yes", "header must be auto, true or false, got 'yes'"),
    ],
)
def test_options_outside_their_range(option: str, value: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule.replace(".", r"\.")):
        Table("t.csv", **{option: value})  # type: ignore[arg-type]


def test_encodings_that_are_none_or_not_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, "größe,b\n1,2\n".encode("latin-1"))
    for encoding, words in (("utf-8", "is not in the encoding utf-8"), ("zip", "no encoding 'zip'"), ("x", "'x'")):
        with pytest.raises(SourceError, match=words):
            Table(str(path), encoding=encoding).load("train")
    with pytest.raises(SourceError, match="holds zero bytes: it is no text"):
        Table(str(write(tmp_path, b"a,b\n1,2\n" * 9 + b"\0,1\n"))).load("train")


def test_options_of_text_are_none_of_parquet(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"decimal, header: .* is Parquet, which has no such option"):
        Table(str(tmp_path / "t.parquet"), decimal="comma", header=True).load("train")


def test_the_faults_below_keep_their_messages(tmp_path: Path) -> None:
    """A row of another length, or a header that comes again, is no reason to doubt the separator."""
    rows = "".join(f"{i},5;{i};0\n" for i in range(30))
    path = write(tmp_path, "a;b;label\n" + rows + "1;2;3;4\n")
    with pytest.warns(UserWarning, match="semicolons"), pytest.raises(SourceError, match="row 30 has 4 fields"):
        Table(str(path), label_column="label").load("train")
    twice = write(tmp_path, "a,b\n1,2\n2,3\na,b\n4,5\n", "u.csv")
    with pytest.raises(SourceError, match="column 'a' is not numeric, it holds 'a' in row 2"):
        Table(str(twice)).load("train")


@pytest.mark.parametrize("seed", range(3))
def test_what_pandas_writes_is_what_is_read(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(60, 3)) * 10.0 ** rng.integers(-8, 8, 3), columns=["a", "b", "label"])
    frame["label"] = rng.integers(0, 2, 60)
    text = io.StringIO()
    frame.to_csv(text, index=False, sep=";", decimal=",")
    with pytest.warns(UserWarning, match="commas in numbers"):
        samples = Table(str(write(tmp_path, text.getvalue())), label_column="label").load("train")
    assert samples is not None
    np.testing.assert_allclose(samples.x[:], frame[["a", "b"]].to_numpy(), rtol=1e-15)  # type: ignore[index]


def test_dialects_are_found_before_torch_is_imported() -> None:
    code = "import sys, adlightning.files.dialects; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
