"""The version of the code behind a cell: which changes count for which configurations."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import adlightning
from adlightning.benchmark import code

CACHED = (code._digest, code._imported, code._defining, code._libraries, code._sources, code._classes)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that may be changed."""
    copy = tmp_path / "adlightning"
    shutil.copytree(Path(adlightning.__file__).parent, copy, ignore=shutil.ignore_patterns("*.pyc", "*.csv"))
    monkeypatch.setattr(code, "_ROOT", copy)
    yield copy
    forget()


def forget() -> None:
    for cached in CACHED:
        cached.cache_clear()


def config(detector: Any = "DeepSAD", source: Any = "Digits", data: str = "OneVsAll", **parts: Any) -> dict[str, Any]:
    model = {"class_path": detector, "init_args": parts}
    return {"model": model, "data": {"class_path": data, "init_args": {"source": source}}, "seed_everything": 0}


EVERY_FIT = ("callbacks/checkpoints", "cli/fitting", "cli/parsing", "cli/parsed_once")
LENET = {"class_path": "LeNetEncoder", "init_args": {"rep_dim": 32}}
CONFIGS = {
    "deep_sad": config(encoder=LENET, optimizer={"class_path": "Adam"}),
    "drocc": config("DROCC", {"class_path": "Odds", "init_args": {"dataset": "cardio"}}, "AnomalyLabelled"),
    "ama": config("AMA"),
    "ocsvm": config("OCSVM"),
    "ssad": config("SSAD"),
    "vgg": config("GeometricTransforms", encoder="VGG11"),
    "augmented": config(source={"class_path": "adlightning.data.sources.Augmented", "init_args": {"source": "Npz"}}),
    "noise": config(data="OutOfDistribution") | {"extra": {"anomaly_sources": {"noise": "GaussianNoise"}}},
    "listed": config() | {"trainer": {"callbacks": [{"class_path": "torch.nn.ReLU"}, {"class_path": "UNet"}]}},
    "kornia": config() | {"parts": {"train_transforms": ["kornia.augmentation.RandomErasing"]}},
    "memory_format": config() | {"trainer": {"callbacks": [{"class_path": "MemoryFormat"}]}},
}


def version(name: str) -> str:
    forget()
    return code.code_version(CONFIGS[name])


def append(file: Path, text: str = "CHANGED = True") -> None:
    file.write_text(f"{file.read_text()}\n{text}\n")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *(("deep_sad", f"{module}.py") for module in ("methods/deep_sad", "methods/parts/hypersphere")),
        *(("deep_sad", f"core/{module}.py") for module in ("detector", "optimization", "metrics", "watchers")),
        *(("deep_sad", f"data/{module}.py") for module in ("splits", "composition", "modules", "one_vs_all")),
        *(("deep_sad", f"data/sources/{module}.py") for module in ("digits", "base")),
        *(("deep_sad", f"{module}.py") for module in ("networks/lenet", "preprocessing/images", "labels")),
        *(
            ("deep_sad", f"{module}.py")
            for module in ("cli/fitting", "cli/parsing", "cli/parsed_once", "callbacks/checkpoints")
        ),
        ("deep_sad", "core/training_state/__init__.py"),
        ("drocc", "methods/drocc.py"),
        ("drocc", "methods/parts/ascent.py"),
        ("drocc", "data/sources/odds.py"),
        ("ama", "methods/ama/detector.py"),
        ("ama", "methods/ama/settings.py"),
        ("ama", "methods/parts/adversarial.py"),
        ("ocsvm", "shallow/ocsvm.py"),
        ("ocsvm", "shallow/kernel.py"),
        ("ssad", "shallow/ssad_dual.py"),
        ("ssad", "shallow/ssad_working_set.py"),
        ("vgg", "networks/vgg.py"),
        ("vgg", "methods/geometric_transforms/dirichlet.py"),
        ("augmented", "data/sources/augmented.py"),
        ("augmented", "data/sources/npz.py"),
        ("noise", "data/sources/noise.py"),
        ("listed", "networks/unet.py"),
        ("memory_format", "callbacks/networks.py"),
    ],
)
def test_what_a_result_comes_from_changes_its_version(package: Path, name: str, file: str) -> None:
    before = version(name)
    append(package / file)
    assert version(name) != before


@pytest.mark.parametrize("name", ["deep_sad", "drocc", "ama", "ocsvm", "vgg", "kornia"])
def test_what_shows_keeps_or_reports_results_leaves_their_versions(package: Path, name: str) -> None:
    before = version(name)
    shown = {package / "__init__.py", package / "core/terminal.py"}
    for folder in ("benchmark", "report", "published", "checkpoints", "callbacks", "cli"):
        shown |= set((package / folder).rglob("*.py"))
    for file in shown - {package / f"{kept}.py" for kept in EVERY_FIT}:
        append(file)
    assert version(name) == before


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("deep_sad", ("methods/ss_dgm", "methods/drocc", "shallow/ssad", "networks/dgm", "data/sources/odds")),
        ("drocc", ("methods/deep_sad", "methods/drocc_lf", "networks/vgg", "data/sources/digits")),
        ("ama", ("methods/ama/semi_supervised", "methods/adgan", "networks/vgg", "data/sources/table")),
        ("ocsvm", ("shallow/ssad_dual", "methods/deep_sad", "networks/gan", "data/sources/npz", "data/own_data")),
        ("vgg", ("methods/goad", "networks/mobilenet", "data/sources/image_folder", "data/out_of_distribution")),
    ],
)
def test_other_methods_networks_and_data_leave_the_version(package: Path, name: str, others: tuple[str, ...]) -> None:
    before = version(name)
    for other in others:
        append(package / f"{other}.py")
    (package / "methods/new_method.py").write_text("class NewMethod: ...")
    append(package / "methods/__init__.py", "from adlightning.methods.new_method import NewMethod")
    assert version(name) == before


def test_comments_docstrings_and_imports_for_types_leave_the_version(package: Path) -> None:
    before = version("deep_sad")
    file = package / "methods/deep_sad.py"
    text = file.read_text().replace('"""Equation 7."""', '"""Equation 7, and more."""')
    file.write_text(f"{text}\n# a comment\n")
    append(file, "if TYPE_CHECKING:\n    from adlightning.methods.drocc import DROCC")
    append(package / "methods/drocc.py")
    assert version("deep_sad") == before


def test_a_class_counts_by_name_and_by_path(package: Path) -> None:
    by_name = config(source={"class_path": "Odds"})
    by_path = config(source={"class_path": "adlightning.data.sources.Odds"})
    forget()
    assert code.code_version(by_name) == code.code_version(by_path) != version("deep_sad")


def test_parts_of_libraries_have_no_code_of_ours(package: Path) -> None:
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    forget()
    assert code.code_version(config(encoder=LENET, optimizer=optimizer)) == version("deep_sad")


@pytest.mark.parametrize(
    "own",
    [
        config("mine.Detector"),
        config(source="mine.Source"),
        config(encoder="mine.vit.ViT"),
        config(encoder={"class_path": "Unknown"}),
    ],
)
def test_for_a_class_of_another_package_everything_counts(package: Path, own: dict[str, Any]) -> None:
    before = code.code_version(own)
    append(package / "shallow/lof.py")
    forget()
    assert code.code_version(own) != before


@pytest.mark.parametrize("named", ["mine_in_a_package.vit.ViT", "mine_alone.ViT", "mine_alone._ViT"])
def test_a_class_of_another_package_counts_with_its_own_files(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    (tmp_path / "own/mine_in_a_package").mkdir(parents=True)
    files = {top: tmp_path / f"own/{top}.py" for top in ("mine_in_a_package/blocks", "mine_alone", "other")}
    for file in files.values():
        file.write_text("class Block: ...")
    monkeypatch.syspath_prepend(tmp_path / "own")
    changed = next(file for top, file in files.items() if top.startswith(named.partition(".")[0]))

    def now() -> str:
        forget()
        return code.code_version(config(encoder=named))

    before = now()
    append(files["other"])
    assert now() == before
    append(changed)
    assert now() != before
