"""A benchmark file becomes cells: which ones, with which configuration, under which hash."""

from __future__ import annotations

import datetime
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from class_defaults import with_defaults
from small_grid import write_grid

from adlightning import published
from adlightning.benchmark.configuration import config_hash, set_option
from adlightning.benchmark.grid import Grid, choose, read_grid
from adlightning.cli.benchmark import set_options
from adlightning.cli.parser import AnomalyParser
from adlightning.cli.registry import import_all
from adlightning.core.contracts import InputSpec
from adlightning.core.scored import ScoredModule
from adlightning.data.sources.odds import ODDS_SIZES

ROOT = Path(__file__).parents[2]


@cache
def grid_of(file: Path) -> Grid:
    """Of one seed; to read a file of thousands of cells takes a while."""
    return read_grid(file, seeds=1)


def test_classes_are_named_as_they_are_written(tmp_path: Path) -> None:
    file = write_grid(tmp_path, seeds=1, labelled_classes="others", methods=[{"method": "deep_sad"}])
    text = file.read_text() + "normal_classes: [001, 010, 1e5, 0x1F, yes, null, 2020-01-01, 3]\n"
    file.write_text(text + "settings: {a: {data.normal_class: 0}, b: {data.far_classes: [007]}}\n")
    cells = read_grid(file, 1, set_options(["data.source.normal_class=011", "data.x=011"])).cells
    names = ["001", "010", "1e5", "0x1F", "yes", "null", "2020-01-01", 3]
    of_b = [c for c in cells if c.labels["setting"] == "b"]
    assert list(dict.fromkeys(c.config["data"]["init_args"]["normal_class"] for c in of_b)) == names
    assert {c.config["data"]["init_args"]["labelled_classes"][0] for c in of_b} == set(names)
    assert {c.labels["labelled"] for c in choose(of_b, ["normal=010"])} == {str(n) for n in names if n != "010"}
    assert all(c.config["data"]["init_args"]["far_classes"] == ["007"] for c in of_b)
    assert all(c.config["data"]["init_args"]["source"]["normal_class"] == "011" for c in cells)
    assert all(c.config["data"]["init_args"]["x"] == 9 for c in cells)  # no name: as YAML has it
    (tmp_path / "keyed").mkdir()  # a file is read once
    keyed = write_grid(tmp_path / "keyed", methods=[{"method": "deep_sad"}], normal_classes=["010", "2"])
    keyed.write_text(
        keyed.read_text().replace("method: deep_sad", "method: deep_sad\n  per_normal: {010: {data.y: 1}}")
    )
    assert ["y" in c.config["data"]["init_args"] for c in read_grid(keyed, 1).cells] == [True, False]


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    return write_grid(tmp_path)


def test_cells_are_methods_times_seeds_with_seeds_outermost(grid_file: Path) -> None:
    cells = read_grid(grid_file).cells
    assert [(c.labels["method"], c.labels["variant"], c.labels["seed"]) for c in cells] == [
        *(("deep_svdd", "one_class", 0), ("deep_sad", "", 0)),
        *(("deep_svdd", "one_class", 1), ("deep_sad", "", 1)),
    ]
    svdd, sad = cells[2].config, cells[3].config
    assert sad["seed_everything"] == svdd["seed_everything"] == 1
    assert sad["data"]["init_args"]["labelled_anomaly_ratio"] == 0.1
    assert svdd["data"]["init_args"]["labelled_anomaly_ratio"] == 0.0  # no use for labels
    assert len({c.config_hash for c in cells}) == 4


def test_a_method_may_have_data_sets_and_normal_classes_of_its_own(tmp_path: Path) -> None:
    other = {"method": "deep_sad", "variant": "other", "datasets": ["own"], "normal_classes": ["a"]}
    methods: list[dict[str, Any]] = [{"method": "deep_sad"}, other | {"per_normal": {"a": {"data.x": 1}}}]
    cells = read_grid(write_grid(tmp_path, seeds=1, normal_classes=[0, 1], methods=methods)).cells
    assert [(cell.labels["variant"], cell.labels["normal"]) for cell in cells] == [("", "0"), ("", "1"), ("other", "a")]
    assert [cell.config["data"]["init_args"].get("x") for cell in cells] == [None, None, 1]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"datasets": ["none"]}, "datasets of deep_sad must be among datasets, got 'none'"),
        ({"datasets": "own"}, "datasets of deep_sad must be a list, got 'own'"),
        ({"normal_classes": "a"}, "normal_classes of deep_sad must be a list, got 'a'"),
        ({"normal_classes": ["a"], "per_normal": {0: {}}}, "per_normal of deep_sad must name normal_classes .* got 0"),
    ],
)
def test_what_a_method_cannot_have_of_its_own_is_refused(tmp_path: Path, method: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_grid(write_grid(tmp_path, normal_classes=[0, 1], methods=[{"method": "deep_sad"} | method]))


def test_classes_and_settings_spread_as_in_the_papers_scenarios(tmp_path: Path) -> None:
    file = write_grid(
        tmp_path,
        seeds=1,
        normal_classes=[0, 1, 2],
        labelled_classes="others",
        settings={"gamma_l=0;k_l=0": {"data.labelled_anomaly_ratio": 0}, "gamma_l=0.1;k_l=1": {}},
        methods=[
            {"method": "deep_svdd", "labels": False, "settings": ["gamma_l=0;k_l=0"]},
            {"method": "deep_sad", "settings": ["gamma_l=0.1;k_l=1"]},
        ],
    )
    cells = read_grid(file).cells
    svdd = [c for c in cells if c.labels["method"] == "deep_svdd"]
    sad = [c for c in cells if c.labels["method"] == "deep_sad"]
    assert [(c.labels["normal"], c.labels["labelled"]) for c in svdd] == [("0", ""), ("1", ""), ("2", "")]
    assert {(c.labels["normal"], c.labels["labelled"]) for c in sad} == {
        (str(a), str(b)) for a in range(3) for b in range(3) if a != b
    }
    data = sad[0].config["data"]["init_args"]
    assert (data["normal_class"], data["labelled_classes"], data["n_labelled_classes"]) == (0, [1], 0)


def test_labelled_classes_can_be_thinned_to_those_that_follow(tmp_path: Path) -> None:
    methods = [{"method": "deep_sad"}]
    file = write_grid(tmp_path, seeds=1, normal_classes=[0, 1, 2], labelled_classes=1, methods=methods)
    labels = [cell.labels for cell in read_grid(file).cells]
    assert [(label["normal"], label["labelled"]) for label in labels] == [("0", "1"), ("1", "2"), ("2", "0")]


def test_more_specific_options_win(tmp_path: Path) -> None:
    method = {"method": "deep_sad", "options": {"model.eta": 2}, "per_dataset": {"own": {"model.eta": 3}}}
    file = write_grid(tmp_path, options={"model.eta": 1, "model.eps": 0.1}, methods=[method])
    model = read_grid(file).cells[0].config["model"]["init_args"]
    assert (model["eta"], model["eps"]) == (3, 0.1)
    assert read_grid(file, options={"model.eta": 4}).cells[0].config["model"]["init_args"]["eta"] == 4


def test_presets_of_a_normal_class_apply_where_it_is_normal(tmp_path: Path) -> None:
    presets = {0: {"model.eta": 5, "model.lr": 0.1}, "b": {"model.eta": 6}, "2": None}
    methods = [
        {"method": "deep_svdd", "labels": False},
        {"method": "deep_sad", "per_dataset": {"own": {"model.eta": 3}}, "per_normal": presets},
    ]
    file = write_grid(tmp_path, seeds=1, normal_classes=["0", "b", 2], labelled_classes=1, methods=methods)
    models = {(c.labels["method"], c.labels["normal"]): c.config["model"]["init_args"] for c in read_grid(file).cells}
    etas = {place: model.get("eta") for place, model in models.items()}
    assert etas == {
        **dict.fromkeys([("deep_svdd", "0"), ("deep_svdd", "b"), ("deep_svdd", "2")]),
        **{("deep_sad", "0"): 5, ("deep_sad", "b"): 6, ("deep_sad", "2"): 3},
    }
    assert [model.get("lr") for (method, _), model in models.items() if method == "deep_sad"] == [0.1, None, None]
    given = read_grid(file, options={"model.eta": 4}).cells
    assert {cell.config["model"]["init_args"]["eta"] for cell in given} == {4}


def test_options_are_set_as_the_command_line_sets_them() -> None:
    config: dict[str, Any] = {
        "model": {"class_path": "DeepSAD"},
        "data": {"class_path": "X", "init_args": {"source": "MNIST"}},
    }
    set_option(config, "model.eta", 2)
    set_option(config, "data.source.init_args.root", "there")
    set_option(config, "data.source.download", True)
    set_option(config, "trainer.max_epochs", 3)
    assert config["model"] == {"class_path": "DeepSAD", "init_args": {"eta": 2}}
    source = {"class_path": "MNIST", "init_args": {"root": "there", "download": True}}
    assert config["data"]["init_args"]["source"] == source
    assert config["trainer"] == {"max_epochs": 3}


def test_the_hash_sees_what_decides_the_result_and_nothing_else() -> None:
    def config(root: str = "a", source: str = "MNIST", **trainer: Any) -> dict[str, Any]:
        data = {"source": {"class_path": source, "init_args": {"root": root, "download": root == "b"}}}
        return {"model": {"eta": 1, "devices": 1}, "trainer": {"max_epochs": 3, **trainer}, "data": data}

    base = config()
    assert config_hash(base) == config_hash(dict(reversed(list(config("b", devices=2).items()))) | {"run_dir": "x"})
    assert config_hash(config(source="Abalone")) == config_hash(config("b", source="Abalone"))
    assert config_hash(base) == config_hash(base | {"plots": False, "boundary_features": ["a", "b"]})
    others = [
        base | {"model": {"eta": 2, "devices": 1}},
        base | {"model": {"eta": 1, "devices": 2}},  # an option that is the trainer's only there
        config(max_epochs=4),
        base | {"seed_everything": 1},
        config(source="adlightning.data.sources.Npz"),
        config("b", source="adlightning.data.sources.Npz"),  # another folder may hold other data
        config(source="ImageFolder"),
        config("b", source="ImageFolder"),
        {"data": {"class_path": "FolderData", "init_args": {"root": "a"}}},
        {"data": {"class_path": "FolderData", "init_args": {"root": "b"}}},
    ]
    assert len({config_hash(other) for other in [base, *others]}) == 1 + len(others)


def test_only_chooses_cells(grid_file: Path) -> None:
    cells = read_grid(grid_file).cells
    assert len(choose(cells, ["method=deep_sad"])) == 2
    assert len(choose(cells, ["method=deep_svdd/one_class", "seed=1"])) == 1
    assert len(choose(cells, ["method=deep_sad,deep_svdd", "seed=0"])) == 2
    assert {cell.labels["method"] for cell in choose(cells, ["variant="])} == {"deep_sad"}
    assert len(read_grid(grid_file, seeds=5).cells) == 10


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("method=drocc", "no cell has method=drocc; there are deep_sad, deep_svdd"),
        ("colour=red", "must be LABEL=VALUE"),
        ("method", "must be LABEL=VALUE"),
    ],
)
def test_only_refuses_what_no_cell_has(grid_file: Path, only: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(read_grid(grid_file).cells, [only])


def test_only_refuses_conditions_that_no_cell_fits_together(grid_file: Path) -> None:
    with pytest.raises(ValueError, match="no cell fits method=deep_sad and method=deep_svdd; several values"):
        choose(read_grid(grid_file).cells, ["method=deep_sad", "method=deep_svdd"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds must be a number of seeds"),
        ({"colour": "red"}, "there is no colour"),
        ({"methods": [{"variant": "x"}]}, "method must be given"),
        ({"methods": [{"method": "deep_sad", "settings": ["x"]}]}, "settings of deep_sad must be among settings"),
        ({"methods": [{"method": "drocc"}]}, "drocc/own.yaml cannot be read"),
        ({"methods": []}, "methods must be a list of at least one"),
        ({"methods": [{"method": "deep_sad", "config": "{metod}/x"}]}, "config may hold {method} and {dataset}"),
        ({"methods": [{"method": "deep_sad", "per_dataset": {"onw": {}}}]}, "must name data sets of the file, got onw"),
        (
            {"normal_classes": [3, 5], "methods": [{"method": "deep_sad", "per_normal": {"3": {}, 4: {}}}]},
            "small.yaml: per_normal of deep_sad must name normal_classes of the file, got 4",
        ),
        ({"methods": [{"method": "deep_sad", "per_normal": {0: {}}}]}, "must name normal_classes of the file, got 0"),
        (
            {"normal_classes": [3], "methods": [{"method": "deep_sad", "per_normal": {3: 8}}]},
            "per_normal of deep_sad, 3 must be a mapping, got 8",
        ),
        ({"datasets": ["own"]}, "datasets must be a mapping"),
        ({"datasets": {"own": "fast"}}, "datasets, own must be a mapping, got 'fast'"),
        ({"settings": ["a"]}, "settings must be a mapping"),
        ({"options": 3}, "options must be a mapping, got 3"),
        ({"normal_classes": 3}, "normal_classes must be a list, got 3"),
        ({"options": {"data.x": datetime.date(2026, 11, 22)}}, "plain values only"),
        (
            {"normal_classes": [1], "labelled_classes": 1},
            "labelled_classes needs a second normal class, got 1 with 1 alone",
        ),
        (
            {"normal_classes": [0, 1], "labelled_classes": "all"},
            "labelled_classes must be `others` or a number of 1 to 1, got all",
        ),
    ],
)
def test_a_faulty_file_is_refused_with_the_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_grid(write_grid(tmp_path, **changes))


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    for text, message in (("- 1\n", "must be a mapping"), ("a: [", "is not YAML")):
        (tmp_path / f"{len(text)}.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_grid(tmp_path / f"{len(text)}.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        read_grid(tmp_path / "none.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "configs/benchmarks").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_benchmark_file_is_a_grid_of_its_published_table(file: Path) -> None:
    grid = grid_of(file)
    assert grid.title
    assert grid.cells
    spec = yaml.safe_load(file.read_text())
    theirs: set[str] = set()
    if published.table_id(spec["paper"], str(spec["table"])) in published.layouts():
        theirs = set(published.published(spec["paper"], str(spec["table"]))["variant"])
    assert all(len(variant := method.get("variant", "")) < 30 or variant in theirs for method in spec["methods"])


INPUTS = {
    "digits": InputSpec("image", (1, 8, 8)),
    "mnist": InputSpec("image", (1, 28, 28)),
    "fashion_mnist": InputSpec("image", (1, 28, 28)),
    "cifar100": InputSpec("image", (3, 32, 32)),
    "svhn": InputSpec("image", (3, 32, 32)),
    "cifar10": InputSpec("image", (3, 32, 32)),
    "imagenet10": InputSpec("image", (3, 224, 224)),
    "lsun": InputSpec("image", (3, 64, 64)),
    "epilepsy": InputSpec("series", (178, 1)),
    "speech_commands": InputSpec("series", (98, 32)),
    "abalone": InputSpec("table", (8,)),
    "sine": InputSpec("table", (2,)),
    "sphere": InputSpec("table", (3,)),
} | {name: InputSpec("table", (features,)) for name, (_, features, _) in ODDS_SIZES.items()}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_detector_of_every_cell_can_be_built_for_its_data(every: bool) -> None:
    """Of one cell for each class and kind of data, or of every one that differs."""
    import_all()
    parser = AnomalyParser()
    parser.add_subclass_arguments(ScoredModule, "model")
    built = set()
    for file in sorted((ROOT / "configs/benchmarks").glob("*.yaml")):
        for cell in grid_of(file).cells:
            model, dataset = cell.config["model"], cell.labels["dataset"]
            if "FLIF" in json.dumps(model) and shutil.which("flif") is None:
                continue  # refused where its program is not installed: tests/methods
            alike = [model, dataset] if every else [model["class_path"], INPUTS[dataset].kind]
            if (what := json.dumps(alike)) not in built:
                built.add(what)
                # sizes only: VGG11 alone would take half a gigabyte each time; spectral norms take long without memory
                with torch.device("cpu" if "AMA" in model["class_path"] else "meta"):
                    detector = parser.instantiate(parser.parse_object({"model": model}))["model"]
                    detector.configure_for(INPUTS[dataset])
    assert len(built) > 40


OF_TABLE = {"1": 11, "2": 10, "3": 13, "4": 11, "5": 12, "8": 11}
"""DROCC's tables of hyper-parameters, by the table of results that they were used for."""


@pytest.mark.parametrize("table", OF_TABLE)
def test_droccs_presets_are_the_published_ones(table: str) -> None:
    """The values that the files repeat for each class; a variant of the released code's values has another name."""
    file = Path(published.__file__).parent / "hyperparameters.csv"
    rows = pd.read_csv(file, dtype={"class": str, "table": str}).fillna({"class": ""})
    rows = rows[rows["table"] == str(OF_TABLE[table])]
    printed = {
        (row["dataset"], row["class"]): (
            *(row["radius"], row["mu_or_lambda"], row["optimizer"].lower()),
            *(row["learning_rate"], row["ascent_step_size"]),
        )
        for _, row in rows.iterrows()
    }
    ours: dict[tuple[str, str], tuple[Any, ...]] = {}
    names = [f"drocc_table{table}", *(["drocc_table3_audio"] if table == "3" else [])]
    for cell in [c for name in names for c in read_grid(ROOT / f"configs/benchmarks/{name}.yaml", seeds=1).cells]:
        model = with_defaults(cell.config["model"])["init_args"]
        if cell.labels["method"] == "drocc" and cell.labels["variant"] in ("", "momentum 0.9"):
            values = (
                model["radius"],
                model["mu"],
                model["optimizer"]["class_path"].lower(),
                model["optimizer"]["init_args"]["lr"],
                model["ascent"]["step_size"],
            )
            place = cell.labels["dataset"], cell.labels["normal"]
            assert ours.setdefault(place, values) == values  # in every setting and variant
            assert model["selection"] == "oracle"
            assert model["gamma"] == (1 if cell.labels["dataset"] in ("cifar10", "imagenet10") else 2)
    assert ours == printed
