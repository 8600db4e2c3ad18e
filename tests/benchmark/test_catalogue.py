"""`benchmark --list`: what can be run, what is done, what is missing and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_grid import write_grid

from adlightning.__main__ import main
from adlightning.benchmark.catalogue import absent_data
from adlightning.benchmark.grid import read_grid, read_outline
from adlightning.benchmark.store import Results
from adlightning.published import published


def lines_of(said: str) -> dict[str, list[str]]:
    """Cells of the table's lines by name."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in rows}


def test_the_list_has_a_line_a_table_with_what_is_done_and_what_the_paper_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = write_grid(tmp_path)
    grid = read_grid(file)
    cells = grid.cells
    results = Results(tmp_path / "runs" / "small")
    results.open(cells, grid)
    for cell, status in zip(cells[:2], ("done", "failed"), strict=True):
        results.write(cell, {"status": status, "code": cell.code, "finished": "2026"})
    (file.parent / "broken.yaml").write_text("seeds: 3")
    assert main(["benchmark", "--list", "--configs", str(file.parent), "--runs", str(tmp_path / "runs")]) == 0
    said = lines_of(capsys.readouterr().out)
    assert said["small"] == ["1 / 4", "", "yes"]
    assert said["broken"] == ["", "", "no"]
    assert said["drocc_table8"] == ["", "0 / 30", "no"]


def test_a_table_that_lacks_rows_of_the_paper_is_told_from_a_whole_one_and_names_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--configs", str(tmp_path / "configs/benchmarks"), "--runs", str(tmp_path / "runs")]
    published = {"paper": "drocc", "table": 8, "normal_classes": list(range(10)), "datasets": {"cifar10": None}}
    own = {"labels": False, "config": "deep_svdd/own"}
    for name, methods in (("drocc_table8", ["deep_svdd"]), ("more", ["drocc", "drocc_rand"])):
        file = write_grid(tmp_path, **published, methods=[own | {"method": m} for m in methods])
        file.rename(file.with_stem(name))
        assert main(["benchmark", "--list", *arguments]) == 0
        assert lines_of(capsys.readouterr().out)["drocc_table8"][1] == f"{10 if name == 'drocc_table8' else 30} / 30"
        assert main(["benchmark", "--list", "drocc_table8", *arguments]) == 0
        said = capsys.readouterr().out
        classes = ", ".join(f"cifar10 {number}" for number in range(10))
        assert (f"without a cell: drocc_rand: {classes}\n" in said) == (name == "drocc_table8")
    assert "the paper prints 30 numbers; 30 of them have cells here, together with more" in said
    assert main(["benchmark", "--list", "drocc_tabl8", *arguments]) != 0
    assert "list: there is no table drocc_tabl8; nearest: drocc_table8" in capsys.readouterr().err


def test_rows_of_test_sets_and_averages_count_as_the_papers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["benchmark", "--list", "--runs", "nowhere"]) == 0
    said = lines_of(capsys.readouterr().out)
    assert said["ama_table1"][1] == "64 / 64"  # an anomalous test set each
    assert said["adgan_table1"][1] == "132 / 132"  # with the averages over ten classes
    assert said["deep_sad_digits"][1] == ""
    assert max(map(len, said)) <= 40


def test_adgans_table_1_lacks_no_method_and_weights_are_there_once_they_lie_where_torchvision_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(Path(__file__).parents[2])
    outline = read_outline(Path("configs/benchmarks/adgan_table1.yaml"))
    assert {labels["method"] for labels in outline.rows} == set(published("adgan", "1")["method"])
    assert "not here: weights of alexnet (torchvision downloads them)" in absent_data(outline.configs)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    assert "alexnet" not in str(absent_data(outline.configs))


def test_absent_data_come_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no_weights"))
    file = write_grid(tmp_path, datasets={"mnist": None, "cardio": None, "own": None}, methods=[{"method": "deep_sad"}])
    own = yaml.safe_load((tmp_path / "configs/deep_sad/own.yaml").read_text())
    sources = {"mnist": ("MNIST", {"root": "nowhere"}), "cardio": ("Odds", {"root": "nowhere", "dataset": "cardio"})}
    for name, (source, arguments) in sources.items():
        data = {"class_path": "X", "init_args": {"source": {"class_path": source, "init_args": arguments}}}
        model = {
            "class_path": "OCSVM",
            "init_args": {"features": {"class_path": "BackboneFeatures", "init_args": {"name": "resnet18"}}},
        }
        (tmp_path / f"configs/deep_sad/{name}.yaml").write_text(yaml.safe_dump(own | {"data": data, "model": model}))
    said = absent_data(read_outline(file).configs)
    assert said == [
        "not here: cardio (put cardio.mat of the ODDS library into nowhere)",
        "not here: weights of resnet18 (torchvision downloads them)",
        "not here: mnist (downloaded with --set data.source.download=true)",
    ]


@pytest.mark.parametrize(
    ("encoder", "network"),
    [
        ({"class_path": "VGG11", "init_args": {"weights": "IMAGENET1K_V1"}}, "vgg11"),
        ({"class_path": "TorchvisionEncoder", "init_args": {"name": "resnet18", "weights": "DEFAULT"}}, "resnet18"),
        ({"class_path": "VGG11"}, None),
    ],
)
def test_absent_weights_of_an_encoder_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: dict[str, Any], network: str | None
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no_weights"))
    file = write_grid(tmp_path, datasets={"own": None}, methods=[{"method": "deep_sad"}])
    config = tmp_path / "configs/deep_sad/own.yaml"
    model = {"class_path": "DensityRatio", "init_args": {"encoder": encoder}}
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"model": model}))
    said = [f"not here: weights of {network} (torchvision downloads them)"] if network else []
    assert absent_data(read_outline(file).configs) == said


def test_absent_data_of_a_source_that_is_its_name_alone_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_grid(tmp_path, datasets={"own": None}, methods=[{"method": "deep_sad"}])
    config = tmp_path / "configs/deep_sad/own.yaml"
    data = {"class_path": "OneVsAll", "init_args": {"source": "MNIST", "normal_class": 0}}
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"data": data}))
    said = ["not here: own (downloaded with --set data.source.download=true)"]
    assert absent_data(read_outline(file).configs) == said
    (tmp_path / "data/MNIST/raw").mkdir(parents=True)
    assert absent_data(read_outline(file).configs) == []


def test_absent_data_within_other_sources_are_found(tmp_path: Path) -> None:
    file = write_grid(
        tmp_path, datasets={"own": None, "augmented": None, "close": None}, methods=[{"method": "deep_sad"}]
    )
    own = yaml.safe_load((tmp_path / "configs/deep_sad/own.yaml").read_text())
    cifar = {"class_path": "CIFAR10", "init_args": {"root": "nowhere"}}
    words = {"class_path": "SpeechCommands", "init_args": {"root": "no words"}}
    data = {
        "augmented": {"source": {"class_path": "Augmented", "init_args": {"source": cifar}}},
        "close": {
            "source": {"class_path": "ImageFolder", "init_args": {"root": "no images"}},
            "close_negatives": {"class_path": "OtherSource", "init_args": {"source": words}},
        },
    }
    for name, arguments in data.items():
        config = own | {"data": {"class_path": "X", "init_args": arguments}}
        (tmp_path / f"configs/deep_sad/{name}.yaml").write_text(yaml.safe_dump(config))
    assert absent_data(read_outline(file).configs) == [
        "not here: augmented (downloaded with --set data.source.source.download=true)",
        "not here: close (unpack Speech Commands into no words)",
        "not here: close (put images into no images/train/CLASS and no images/test/CLASS)",
    ]


@pytest.mark.parametrize(
    ("source", "arguments", "file"),
    [
        ("Abalone", {}, "abalone.data"),
        ("Epilepsy", {}, "data.csv"),
        ("Odds", {"dataset": "thyroid"}, "thyroid.npz"),
        ("SpeechCommands", {}, "yes/a.wav"),
        ("ImageFolder", {}, "train/tench/a.jpg"),
    ],
)
def test_data_that_are_there_are_not_called_absent(
    tmp_path: Path, source: str, arguments: dict[str, str], file: str
) -> None:
    root = tmp_path / "there"
    grid = write_grid(tmp_path, datasets={"own": None}, methods=[{"method": "deep_sad"}])
    config = tmp_path / "configs/deep_sad/own.yaml"
    data = {"source": {"class_path": source, "init_args": arguments | {"root": str(root)}}}
    own = yaml.safe_load(config.read_text()) | {"data": {"class_path": "X", "init_args": data}}
    config.write_text(yaml.safe_dump(own))
    configs = read_outline(grid).configs
    (said,) = absent_data(configs)
    assert str(root) in said
    (root / file).parent.mkdir(parents=True)
    (root / file).touch()
    assert absent_data(configs) == []
