"""Every config parses, and runs one batch of each kind on its own data (or, where those are absent, stand-ins)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from adlightning.__main__ import main

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "configs").glob("*/*.yaml")
    if path.parent.name != "benchmarks"  # grids: tests/benchmark
)
DEEP = (
    *("autoencoder", "deep_sad", "deep_svdd", "soft_boundary_deep_svdd"),
    *("binary_classifier", "ss_dgm", "stacked_ss_dgm"),
)
HYBRID = ("isolation_forest", "kde", "ocsvm", "ssad")
SHALLOW = (*HYBRID, "gmm", "lof", "nearest_neighbor")
DATA = (
    *("digits", "mnist", "fashion_mnist", "cifar10", "folder", "table"),
    *("arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid"),
)
ONE_BATCH = [
    "--trainer.fast_dev_run=true",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


def test_every_method_has_every_config() -> None:
    wanted = {f"configs/{method}/{data}.yaml" for method in (*DEEP, *SHALLOW) for data in DATA}
    wanted |= {f"configs/{method}/{data}_hybrid.yaml" for method in HYBRID for data in set(DATA) - {"folder", "table"}}
    assert wanted <= set(CONFIGS)


@pytest.mark.parametrize("path", CONFIGS)
def test_header_says_what_the_config_is(path: str) -> None:
    lines = (ROOT / path).read_text().splitlines()
    assert lines[0].startswith("# ")
    if "Odds" in "\n".join(lines) or "root: data" in "\n".join(lines):
        assert any(line.startswith("# Published: ") for line in lines)
        assert any(line.startswith("# Ours: ") for line in lines)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and a table of one's own."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for part, n in {"train/normal": 30, "train/anomaly": 2, "test/normal": 3, "test/anomaly": 3}.items():
        (root / "images" / part).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / part / f"{i}.png")
    frame = pd.DataFrame(rng.normal(size=(80, 5)), columns=list("abcde"))
    frame.assign(label=["normal"] * 64 + ["anomaly"] * 16).to_csv(root / "table.csv", index=False)
    return root


def data_options(config: dict, own: Path) -> list[str] | None:  # type: ignore[type-arg]
    """Where the config's data are; None when they are not on this machine."""
    name = config["data"]["class_path"]
    if name == "FolderData":
        return [f"--data.root={own / 'images'}"]
    if name == "TableData":
        return [f"--data.path={own / 'table.csv'}", "--data.label_column=label"]
    source = config["data"]["init_args"]["source"]
    if source == "Digits":
        return []
    if source["class_path"] == "Odds":
        folder, dataset = ROOT / "data" / "odds", source["init_args"]["dataset"]
        found = any((folder / f"{dataset}{suffix}").is_file() for suffix in (".mat", ".npz"))
        return [f"--data.source.init_args.root={folder}"] if found else None
    needed = {"MNIST": "MNIST/raw", "FashionMNIST": "FashionMNIST/raw", "CIFAR10": "cifar10.npz"}
    if (ROOT / "data" / needed[source["class_path"]]).exists():
        return [f"--data.source.init_args.root={ROOT / 'data'}"]
    return None


@pytest.mark.parametrize("path", CONFIGS)
def test_config_parses_and_runs_one_batch(path: str, own: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / path).read_text())
    options = data_options(config, own)
    method, data = path.split("/")[1:]
    small = data.startswith(("digits", "folder", "table", "thyroid"))
    if options is None or (method in SHALLOW and not small):  # it is fitted on all samples
        with pytest.raises(SystemExit) as ended:
            main(["fit", "--config", str(ROOT / path), "--print_config"])
        assert ended.value.code == 0
        if options is None:
            pytest.skip("its data are not here: parsed only")
        return
    init = config["model"]["init_args"]
    phase = ["--model.pretrain_epochs=0"] if "pretrain_epochs" in init else []
    assert main(["fit", "--config", str(ROOT / path), f"--run_dir={tmp_path}", *options, *phase, *ONE_BATCH]) == 0
    assert (tmp_path / "scores.csv").is_file()
