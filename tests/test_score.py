"""The score verb: your own images, tables and arrays from a checkpoint alone, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from refusals import is_refusal
from sklearn.datasets import load_digits

from adlightning.__main__ import main
from adlightning.core.contracts import InputSpec
from adlightning.data.own_samples import read_samples

ROOT = Path(__file__).parents[1]
QUICK = [
    "--trainer.max_epochs=3",
    "--model.pretraining.epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    config = str(ROOT / "configs/deep_sad/digits.yaml")
    assert main(["fit", "--config", config, f"--run_dir={folder}", *QUICK]) == 0
    return folder


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(120, 4)), columns=["length", "width", "mass", "age"])
    frame["label"] = "normal"
    frame.to_csv(folder / "train.csv", index=False)
    config = str(ROOT / "configs/deep_sad/table.yaml")
    options = [f"--data.path={folder / 'train.csv'}", "--data.label_column=label", f"--run_dir={folder / 'run'}"]
    assert main(["fit", "--config", config, *options, *QUICK]) == 0
    return folder / "run"


def digit_images() -> NDArray[np.uint8]:
    images: NDArray[np.uint8] = (load_digits().images * 255 / 16).astype(np.uint8)
    return images[:20]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "deep" / "er").mkdir(parents=True)
    for i, image in enumerate(digit_images()):
        Image.fromarray(image).save(folder / ("deep/er" if i % 2 else "") / f"{i:02}.png")
    return folder


def score(run: Path, data: Path, out: Path, *options: str) -> int:
    return main(["score", f"--ckpt_path={run}", f"--data={data}", f"--out={out}", "--device=cpu", *options])


def test_a_folder_of_images_gets_a_row_each_with_name_score_and_verdict(
    digits_run: Path, images: Path, tmp_path: Path
) -> None:
    assert score(digits_run, images, tmp_path / "s.csv", "--plots") == 0
    table = pd.read_csv(tmp_path / "s.csv")
    assert list(table.columns) == ["name", "score", "p_value", "verdict"]
    assert sorted(table.name) == sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    assert set(table.verdict) <= {"normal", "anomaly"}
    assert table.loc[table.verdict == "anomaly", "score"].min() > table.loc[table.verdict == "normal", "score"].max()
    assert Image.open(tmp_path / "s_plots/most_anomalous.png").size[0] > 200
    assert (tmp_path / "s_plots/scores.png").is_file()


def test_files_and_arrays_score_alike_in_any_batch(digits_run: Path, images: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=digit_images())
    assert score(digits_run, images, tmp_path / "files.csv") == 0
    assert score(digits_run, tmp_path / "x.npz", tmp_path / "array.csv", "--batch_size=3") == 0
    files = pd.read_csv(tmp_path / "files.csv").assign(row=lambda t: t.name.str[-6:-4].astype(int)).sort_values("row")
    array = pd.read_csv(tmp_path / "array.csv")
    np.testing.assert_allclose(files.score.to_numpy(), array.score.to_numpy(), rtol=1e-4)


def test_a_table_is_matched_by_column_names(table_run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(10, 4)), columns=["length", "width", "mass", "age"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame[["age", "mass", "width", "length"]].assign(label="normal").to_parquet(tmp_path / "b.parquet")
    assert score(table_run, tmp_path / "a.csv", tmp_path / "a_scores.csv") == 0
    assert score(table_run, tmp_path / "b.parquet", tmp_path / "b_scores.csv") == 0
    a, b = (pd.read_csv(tmp_path / f"{name}_scores.csv") for name in "ab")
    assert list(a.score) == list(b.score)
    assert len(a) == 10


def test_a_key_is_for_an_npz(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"key names an array of an \.npz, and data is .*t\.csv"):
        read_samples(tmp_path / "t.csv", InputSpec("table", (1,), "t", features=("a",)), "a")


def test_what_exists_is_not_overwritten(digits_run: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("mine")
    assert score(digits_run, images, tmp_path / "s.csv") == 2
    assert (tmp_path / "s.csv").read_text() == "mine"


def test_images_of_another_size_are_refused(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "x.png")
    is_refusal(capsys, score(digits_run, tmp_path / "x.png", tmp_path / "s.csv"), "1x9x9", "trained on 1x8x8 images")


def test_images_with_other_channels_are_refused(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    is_refusal(capsys, score(digits_run, tmp_path / "x.png", tmp_path / "s.csv"), "3x8x8", "trained on 1x8x8 images")


def test_another_kind_of_data_is_refused(
    digits_run: Path, table_run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"a": [1.0]}).to_csv(tmp_path / "t.csv", index=False)
    is_refusal(
        capsys, score(digits_run, tmp_path / "t.csv", tmp_path / "s.csv"), "is a table", "trained on 1x8x8 images"
    )
    is_refusal(capsys, score(table_run, images, tmp_path / "s.csv"), "is a folder of images", "trained on 4 features")


def test_missing_and_extra_columns_are_refused(
    table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"length": [1.0], "width": [1.0], "mass": [1.0]}).to_csv(tmp_path / "t.csv", index=False)
    is_refusal(capsys, score(table_run, tmp_path / "t.csv", tmp_path / "s.csv"), "lacks the columns 'age'")
    columns = {name: [1.0] for name in ("length", "width", "mass", "age", "colour")}
    pd.DataFrame(columns).to_csv(tmp_path / "u.csv", index=False)
    is_refusal(capsys, score(table_run, tmp_path / "u.csv", tmp_path / "s.csv"), "not trained on: 'colour'")


def test_nan_text_and_corrupt_input_are_refused(
    digits_run: Path, table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"length": [1.0, float("nan")], "width": [1.0, 2.0], "mass": [1.0, 2.0], "age": [1.0, 2.0]}
    pd.DataFrame(row).to_csv(tmp_path / "nan.csv", index=False)
    is_refusal(capsys, score(table_run, tmp_path / "nan.csv", tmp_path / "s.csv"), "length")
    pd.DataFrame({**row, "length": ["long", "short"]}).to_csv(tmp_path / "text.csv", index=False)
    is_refusal(capsys, score(table_run, tmp_path / "text.csv", tmp_path / "s.csv"), "length")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    is_refusal(capsys, score(digits_run, tmp_path / "broken.png", tmp_path / "s.csv"), "broken.png")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04nothing")
    is_refusal(capsys, score(digits_run, tmp_path / "broken.npz", tmp_path / "s.csv"), "broken.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    is_refusal(capsys, score(digits_run, tmp_path / "objects.npz", tmp_path / "s.csv"), "objects.npz", "refused")
    (tmp_path / "empty").mkdir()
    is_refusal(capsys, score(digits_run, tmp_path / "empty", tmp_path / "s.csv"), "no images")
    is_refusal(capsys, score(digits_run, tmp_path / "nowhere", tmp_path / "s.csv"), "no file or folder")
    is_refusal(capsys, score(tmp_path / "empty", tmp_path / "broken.png", tmp_path / "s.csv"), "no checkpoint at")
    assert not (tmp_path / "s.csv").exists()


# ---- what cannot be scored, columns, and other thresholds -----------------------------------------------------------


def scored_table(seed: int = 1) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(10, 4)), columns=["length", "width", "mass", "age"])


def test_rows_that_cannot_be_scored_are_skipped_and_marked(
    table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = scored_table()
    broken = whole.astype(object)
    broken.iloc[2, 0], broken.iloc[4, 3], broken.iloc[7, 1], broken.iloc[8, 1] = None, "old", np.inf, 1e39
    whole.to_csv(tmp_path / "whole.csv", index=False)
    broken.to_csv(tmp_path / "t.csv", index=False)
    said = ("row 2, whose column 'length' has no value (or NaN), and 3 more rows: on_bad=skip",)
    is_refusal(capsys, score(table_run, tmp_path / "t.csv", tmp_path / "s.csv"), *said)
    assert score(table_run, tmp_path / "whole.csv", tmp_path / "w.csv", "--on_bad=skip") == 0
    assert score(table_run, tmp_path / "t.csv", tmp_path / "s.csv", "--on_bad=skip", "--plots") == 0
    assert "4 of 10 are skipped, 2 for one, since column 'length' has no value" in capsys.readouterr().out
    expected, table = (pd.read_csv(tmp_path / name, keep_default_na=False) for name in ("w.csv", "s.csv"))
    assert list(table.columns) == ["name", "score", "p_value", "verdict", "skipped"]
    assert (expected.skipped == "").all()
    bad = table.skipped != ""
    assert bad.to_numpy().nonzero()[0].tolist() == [2, 4, 7, 8]
    assert table.name.tolist() == list(range(10))
    assert (table.loc[bad, ["score", "p_value", "verdict"]] == "").all(axis=None)
    assert table.skipped[4] == "column 'age' has 'old'"
    np.testing.assert_allclose(table.score[~bad].astype(float), expected.score[~bad].astype(float), rtol=1e-6)
    assert table.verdict[~bad].tolist() == expected.verdict[~bad].tolist()


def test_images_that_cannot_be_scored_are_skipped_and_marked(
    digits_run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(digits_run, images, tmp_path / "whole.csv") == 0
    (images / "03.png").write_bytes(b"no image")
    noise = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(noise).save(images / "05.png")
    (images / "05.png").write_bytes((images / "05.png").read_bytes()[:-40])  # which shows when it is decoded
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(images / "07.png")
    is_refusal(capsys, score(digits_run, images, tmp_path / "s.csv"), "03.png")
    assert score(digits_run, images, tmp_path / "s.csv", "--on_bad=skip", "--plots", "--batch_size=1") == 0
    assert "3 of 23 are skipped, 03.png for one" in capsys.readouterr().out
    whole, table = (pd.read_csv(tmp_path / f"{name}.csv").set_index("name") for name in ("whole", "s"))
    assert table.index[table.score.isna()].tolist() == ["03.png", "05.png", "07.png"]
    assert "is no image" in table.skipped["03.png"]
    assert "cannot be read as an image" in table.skipped["05.png"]
    assert "it is 1x9x9, the detector was trained on 1x8x8 images" in table.skipped["07.png"]
    np.testing.assert_allclose(table.score[whole.index], whole.score, rtol=1e-6)


def test_rows_of_an_array_that_cannot_be_scored_are_skipped(
    digits_run: Path, table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = scored_table().to_numpy(copy=True)
    features[3, 1], features[5, 0] = np.nan, 1e39
    np.savez(tmp_path / "x.npz", x=features)
    np.save(tmp_path / "i.npy", np.where(np.arange(6)[:, None, None] == 2, 7.0, digit_images()[:6] / 255))
    is_refusal(capsys, score(table_run, tmp_path / "x.npz", tmp_path / "s.csv"), "holds nan at row 3, column 1")
    assert score(table_run, tmp_path / "x.npz", tmp_path / "s.csv", "--on_bad=skip") == 0
    table = pd.read_csv(tmp_path / "s.csv")
    assert table.index[table.score.isna()].tolist() == [3, 5]
    assert table.skipped[3] == "it holds nan; features must be finite numbers within float32"
    assert score(digits_run, tmp_path / "i.npy", tmp_path / "i.csv", "--on_bad=skip") == 0
    assert pd.read_csv(tmp_path / "i.csv").skipped[2] == "it holds 7.0; images are floats in [0, 1]"


def test_where_everything_would_be_skipped_something_else_is_wrong(
    digits_run: Path, table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored_table().assign(age="old").to_csv(tmp_path / "t.csv", index=False)
    code = score(table_run, tmp_path / "t.csv", tmp_path / "s.csv", "--on_bad=skip")
    is_refusal(capsys, code, "nothing of", "all 10 are skipped, 0 for one, since column 'age' has 'old'")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "x.png")
    is_refusal(capsys, score(digits_run, tmp_path / "x.png", tmp_path / "s.csv", "--on_bad=skip"), "all 1 are skipped")


def test_all_that_is_wrong_with_a_table_is_said_at_once(
    table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = scored_table().rename(columns={"age": " Age"}).assign(colour="red")
    frame.loc[1, "mass"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    is_refusal(
        capsys,
        score(table_run, tmp_path / "t.csv", tmp_path / "s.csv"),
        "lacks the columns 'age' of 'length', 'width', 'mass', 'age' (' Age' is 'age'?)",
        "not trained on: ' Age', 'colour': leave them out (drop_columns)",
        "row 1, whose column 'mass' has no value",
    )


def test_columns_are_left_out_when_told(table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored_table().to_csv(tmp_path / "a.csv", index=False)
    more = scored_table()[["age", "mass", "width", "length"]]
    more["the colour"], more["null"] = "red", 1
    more.to_csv(tmp_path / "b.csv", index=False)
    is_refusal(
        capsys, score(table_run, tmp_path / "b.csv", tmp_path / "b_s.csv"), "not trained on: 'the colour', 'null'"
    )
    assert score(table_run, tmp_path / "a.csv", tmp_path / "a_s.csv") == 0
    assert score(table_run, tmp_path / "b.csv", tmp_path / "b_s.csv", "--drop_columns", "the colour", "null") == 0
    a, b = (pd.read_csv(tmp_path / f"{name}_s.csv") for name in "ab")
    assert a.score.tolist() == b.score.tolist()
    capsys.readouterr()
    code = score(table_run, tmp_path / "a.csv", tmp_path / "c.csv", "--drop_columns", "weight")
    is_refusal(capsys, code, "drop_columns: ", "has no column 'weight'; it has 'length'")
    code = score(table_run, tmp_path / "a.csv", tmp_path / "c.csv", "--drop_columns", "age")
    is_refusal(capsys, code, "lacks the columns 'age'")


def test_another_threshold_gives_other_verdicts(
    table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "a.csv"
    scored_table().to_csv(data, index=False)
    assert score(table_run, data, tmp_path / "own.csv") == 0
    scores = pd.read_csv(tmp_path / "own.csv").score.sort_values().to_numpy()
    assert score(table_run, data, tmp_path / "v.csv", f"--threshold={scores[4:6].mean()}") == 0
    assert "5 of 10 samples are above the threshold" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "v.csv")
    assert (table.verdict == "anomaly").sum() == 5
    rule = ("--threshold_rule=FalsePositiveRate", "--set", "threshold.rate=0.5")
    assert score(table_run, data, tmp_path / "r.csv", *rule) == 0
    table = pd.read_csv(tmp_path / "r.csv")
    assert (table.verdict == np.where(table.p_value <= 0.5, "anomaly", "normal")).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold=nan"], "threshold must be a finite number, got nan"),
        (["--threshold=1", "--threshold_rule=NormalQuantile"], "threshold and threshold_rule each give a threshold"),
        (["--threshold=1", "--set", "threshold=NormalQuantile"], "threshold and set threshold each give a threshold"),
        (["--threshold_rule=Contamination"], "needs the samples that a threshold is fitted to"),
        (["--threshold_rule=FalsePositiveRate", "--set", "threshold.rate=0.001"], "needs at least 999 held-out normal"),
        (["--threshold_rule=Nonsense"], "Nonsense"),
        (["--on_bad=drop"], "on_bad"),
    ],
)
def test_thresholds_and_words_that_cannot_be_taken(
    table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    scored_table().to_csv(tmp_path / "a.csv", index=False)
    is_refusal(capsys, score(table_run, tmp_path / "a.csv", tmp_path / "s.csv", *options), message)


IMAGES = InputSpec("image", (1, 8, 8))
TABLE = InputSpec("table", (3,))


@pytest.mark.parametrize(
    "name", ["x.pt", "x.ckpt", "x.zip", "x.txt", "x.json", "x.mp4", "x.wav", "x.pkl", "x.psd", "x"]
)
@pytest.mark.parametrize("spec", [IMAGES, TABLE])
def test_a_file_that_nothing_is_read_from_is_refused_for_what_it_is(tmp_path: Path, name: str, spec: InputSpec) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 something")
    with pytest.raises(ValueError, match=rf"^data must be a folder of images, an image .*, got {tmp_path / name}$"):
        read_samples(tmp_path / name, spec)


def test_an_npy_is_read_as_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", digit_images())
    np.save(tmp_path / "table.NPY", np.arange(6).reshape(2, 3))
    samples = read_samples(tmp_path / "images.npy", IMAGES)
    assert isinstance(samples.x, torch.Tensor)
    assert torch.equal(samples.x[:, 0], torch.from_numpy(digit_images()))
    table = read_samples(tmp_path / "table.NPY.npy", TABLE)
    assert isinstance(table.x, torch.Tensor)
    assert table.x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert table.names == ["0", "1"]


@pytest.mark.parametrize(
    ("array", "spec", "message"),
    [
        (np.zeros((3, 4)), TABLE, "holds samples of 4; the detector was trained on 3 features"),
        (np.full((3, 8, 8), 2.0), IMAGES, "holds images with the value 2.0: uint8 in 0..255 or floats"),
        (np.zeros((3, 8, 8, 3), np.uint8), IMAGES, "holds samples of 8x8x3; the detector was trained on 1x8x8 images"),
        (np.zeros(3, dtype=object), TABLE, "cannot be read as one array of numbers"),
        (np.array(["a", "b"]), TABLE, "numbers are needed"),
        (np.array(1.0), TABLE, "numbers are needed"),
        (np.zeros((0, 3)), TABLE, "refused|no samples"),
    ],
)
def test_an_npy_that_does_not_fit_is_refused(
    tmp_path: Path, array: NDArray[Any], spec: InputSpec, message: str
) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)  # one of the arrays holds objects, which are refused
    with pytest.raises(ValueError, match=rf"^data: .*x\.npy .*({message})"):
        read_samples(tmp_path / "x.npy", spec)


def test_an_npy_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    for shape in ((2**40, 3), (2**40, 0)):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        with pytest.raises(ValueError, match=r"^data: .*x\.npy "):
            read_samples(tmp_path / "x.npy", TABLE)


def test_what_a_folder_holds_beside_images_is_named(
    digits_run: Path, images: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (images / "21.jfif").write_bytes((images / "00.png").read_bytes())
    (images / "22.psd").write_bytes(b"another format")
    assert score(digits_run, images, tmp_path / "s.csv") == 0
    assert len(pd.read_csv(tmp_path / "s.csv")) == 21
    assert [str(w.message) for w in recwarn if "left out" in str(w.message)] == [
        f"{images}: left out: other formats than BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP: 1 (1 .psd)"
    ]
