"""Every config parses, and runs one batch of each kind on its own data (or, where those are absent, stand-ins)."""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io.wavfile
import yaml
from class_defaults import class_named, defaults_of, with_defaults
from PIL import Image
from pytorch_lightning import Trainer
from short_fits import PHASES, argument, detector_arguments, slow_but

from adlightning.__main__ import main
from adlightning.cli import registry
from adlightning.cli.parser import AnomalyParser
from adlightning.cli.parsing import PARSER_MODE, keep_names_as_written
from adlightning.core.detector import AnomalyDetector
from adlightning.data.modules import AnomalyDataModule

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "configs").glob("*/*.yaml")
    if path.parent.name not in ("benchmarks", "parts")  # grids: tests/benchmark
)
DEEP = (
    *("autoencoder", "deep_sad", "deep_svdd", "soft_boundary_deep_svdd"),
    *("binary_classifier", "ss_dgm", "stacked_ss_dgm"),
    *("drocc", "drocc_rand", "drocc_oe", "drocc_lf"),
    "density_ratio",
)
SEARCHED = ("adgan", "anogan")
HYBRID = ("isolation_forest", "kde", "ocsvm", "ssad")
ADGAN_BASELINES = ("isolation_forest", "kde", "ocsvm")  # the Gaussian mixture's configs are on principal components
SHALLOW = (*HYBRID, "gmm", "lof", "nearest_neighbor")
KERNEL_RATIO = ("kernel_kliep", "kernel_ulsif")
SVMS = ("svm", "biased_svm")
DATA = (
    *("digits", "mnist", "fashion_mnist", "cifar10", "folder", "table"),
    *("arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid"),
)
IMAGES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "folder")  # of geometric transformations
# DROCC's further data: sets whose training part is normal samples alone, and sets with limited negatives. An LSTM and a
# LeNet have a decoder, MobileNetV2 has none.
ONE_CLASS_DATA = ("abalone", "cifar10_augmented", "epilepsy", "sine", "speech_commands", "sphere")
ONE_CLASS_METHODS = ("autoencoder", "deep_svdd", "drocc", "drocc_rand", "nearest_neighbor")
KERNEL_RATIO_DATA = (
    *("digits", "table", "sine", "sphere"),
    *("arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid"),
)
LIMITED_DATA = ("mnist_half_zeros", "noisy_sine", "speech_commands_close")
LIMITED_METHODS = ("binary_classifier", "deep_sad", "deep_svdd", "drocc", "drocc_lf", "drocc_oe", "nearest_neighbor")
# A whole data set against others.
OOD_DATA = ("fashion_mnist_ood", "cifar10_ood", "svhn_ood")
OOD_METHODS = ("autoencoder", "deep_svdd", "isolation_forest")
AMA_DATA = ("digits", "mnist", "fashion_mnist", "cifar10", "folder", *OOD_DATA)  # of images alone
# On a DCGAN's layers: images only.
# On convolutional networks of their own: square images only.
DCGAN_DATA = ("digits", "mnist", "fashion_mnist", "cifar10", "folder")
WAIC_METHODS = ("waic", "density_waic")
DCGAN_METHODS = ("dcae", "vae", "fence_gan", "skip_ganomaly", "alad", "conad")
ENERGY_DATA = (*DCGAN_DATA, "arrhythmia", "epilepsy", "noisy_sine", "sine", "speech_commands", "table", "thyroid")
LIKELIHOODS = ("likelihood", "likelihood_ratio", "typicality", "s_score")
# GOAD takes tables only.
TABLES = (
    *("table", "arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid"),
    *("abalone", "noisy_sine", "sine", "sphere"),
)
WINDOW_METHODS = (
    *("autoencoder", "deep_sad", "deep_svdd", "drocc", "dsebm", "isolation_forest", "kde", "lof"),
    *("nearest_neighbor", "ocsvm", "pca"),
)
SMALL_DATA = (
    *("digits", "folder", "table", "thyroid"),
    *("abalone", "cifar10_augmented", "imagenet10", "noisy_sine", "paradigms", "sine", "speech_commands", "sphere"),
)
"""Beginnings of names of data on which a shallow method is fitted in no time, as they are or as the stand-ins are."""
IMAGENET10 = (
    *("tench", "english_springer", "cassette_player", "chain_saw", "church"),
    *("french_horn", "garbage_truck", "gas_pump", "golf_ball", "parachute"),
)
BLOCKS = ("model", "data", "trainer")
NEEDED = {
    "FolderData": {"root": "images"},
    "MVTecLayout": {"root": "defects"},
    "SoundData": {"root": "wavs"},
    "TableData": {"path": "table.csv", "label_column": "label"},
    "Windows": {"path": "sensors.csv", "label_column": "label"},
}
"""What a config of one's own data leaves to whoever runs it."""
ONE_BATCH = [
    "--plots=false",  # tests/callbacks
    "--trainer.fast_dev_run=true",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


def test_every_method_has_every_config() -> None:
    wanted = {f"configs/{method}/{data}.yaml" for method in (*DEEP, *SHALLOW) for data in DATA}
    wanted |= {f"configs/{method}/{data}_hybrid.yaml" for method in HYBRID for data in set(DATA) - {"folder", "table"}}
    wanted |= {f"configs/{method}/{data}.yaml" for method in ONE_CLASS_METHODS for data in ONE_CLASS_DATA}
    wanted |= {f"configs/{method}/imagenet10.yaml" for method in set(ONE_CLASS_METHODS) - {"autoencoder"}}
    wanted |= {f"configs/{method}/{data}.yaml" for method in LIMITED_METHODS for data in LIMITED_DATA}
    wanted |= {f"configs/{method}/cifar10_augmented.yaml" for method in ("binary_classifier", "deep_sad")}
    wanted |= {f"configs/{method}/imagenet10.yaml" for method in ("binary_classifier", "deep_sad")}
    wanted |= {f"configs/pca/{data}.yaml" for data in ("digits", "mnist", "fashion_mnist", "folder", "table")}
    wanted |= {f"configs/patch_knn/{data}.yaml" for data in ("digits", "mnist", "fashion_mnist", "folder")}
    images = ("digits", "mnist", "fashion_mnist", "cifar10", "folder")
    wanted |= {f"configs/{method}/{data}.yaml" for method in (*SEARCHED, "fcdd", "hsc") for data in images}
    wanted |= {f"configs/geometric_transforms/{data}.yaml" for data in IMAGES}
    wanted |= {f"configs/density_ratio/{data}.yaml" for data in ("cifar100", "cifar10_imagenet", "cifar100_imagenet")}
    wanted |= {f"configs/{method}/{data}.yaml" for method in KERNEL_RATIO for data in KERNEL_RATIO_DATA}
    wanted |= {f"configs/ocsvm/{data}.yaml" for data in ("abalone", "sine", "sphere")} | {"configs/lof/abalone.yaml"}
    wanted |= {f"configs/goad/{data}.yaml" for data in TABLES}
    wanted |= {f"configs/{method}/{data}.yaml" for method in DCGAN_METHODS for data in DCGAN_DATA}
    wanted |= {f"configs/dsebm/{data}.yaml" for data in ENERGY_DATA}
    wanted |= {f"configs/{method}/{data}.yaml" for method in OOD_METHODS for data in OOD_DATA}
    wanted |= {
        f"configs/{method}/{data}_pca.yaml" for method in ADGAN_BASELINES for data in ("mnist", "cifar10", "lsun")
    }
    wanted |= {f"configs/{method}/{data}_alexnet.yaml" for method in ("kde", "ocsvm") for data in ("mnist", "cifar10")}
    wanted |= {"configs/kde/lsun_alexnet.yaml", "configs/ocsvm/lsun_alexnet.yaml", "configs/gmm/lsun_pca.yaml"}
    wanted |= {f"configs/{method}/{data}.yaml" for method in LIKELIHOODS for data in ("digits", "folder", *OOD_DATA)}
    wanted |= {f"configs/ama/{data}.yaml" for data in AMA_DATA}
    wanted |= {f"configs/{method}/{data}.yaml" for method in WAIC_METHODS for data in ("digits", "folder", *OOD_DATA)}
    wanted |= {f"configs/semi_supervised_ama/{data}.yaml" for data in DCGAN_DATA}
    wanted |= {f"configs/{method}/{data}.yaml" for method in SVMS for data in ("digits", "table")}
    mapped = ("autoencoder", "deep_svdd", "nearest_neighbor", "patch_knn", "pca", "fcdd")
    wanted |= {f"configs/{method}/mvtec.yaml" for method in mapped}
    wanted |= {f"configs/{method}/windows.yaml" for method in WINDOW_METHODS}
    wanted |= {f"configs/{method}/sounds.yaml" for method in set(WINDOW_METHODS) - {"dsebm"}}
    wanted |= {f"configs/{method}/paradigms.yaml" for method in ("ocsvm", *SVMS, "ss_dgm", "deep_sad")}
    assert wanted <= set(CONFIGS)


@pytest.mark.parametrize("path", CONFIGS)
def test_header_says_what_the_config_is(path: str) -> None:
    text = (ROOT / path).read_text()
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    source = yaml.safe_load(text)["data"].get("init_args", {}).get("source")
    if source and "root" in defaults_of(class_named(described(source)["class_path"])):  # public data
        assert any(line.startswith("# Published: ") for line in lines)
        assert any(line.startswith("# Ours: ") for line in lines)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of images, of classes of images and of words, small image sets, and a table in part without labels."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    parts = {"train/normal": 30, "train/unlabelled": 4, "train/anomaly": 2, "test/normal": 3, "test/anomaly": 3}
    images = {f"images/{part}": n for part, n in parts.items()}
    images |= {"defects/train/good": 30, "defects/test/good": 3, "defects/test/dent": 3}
    images |= {f"classes/{part}/{name}": n for part, n in (("train", 30), ("test", 2)) for name in IMAGENET10}
    for folder, n in images.items():
        (root / folder).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i}.png")
    (root / "defects/ground_truth/dent").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(root / f"defects/ground_truth/dent/{i}_mask.png")
    for folder, clips in {"words/marvin": 30, "words/go": 4, "close/marvel": 2}.items():
        (root / folder).mkdir(parents=True)
        for i in range(clips):
            # a whole second: the first frames of a shorter clip, which is centred, are silent and all alike
            noise = rng.integers(-1000, 1000, 16_000).astype(np.int16)
            scipy.io.wavfile.write(root / folder / f"{i}.wav", 16000, noise)
    tested = {"words": ("marvin/0.wav", "go/0.wav"), "close": ("marvel/0.wav", "marvel/1.wav")}
    for folder, names in tested.items():
        (root / folder / "testing_list.txt").write_text("\n".join(names))
    write_small_image_sets(root / "data", rng)
    frame = pd.DataFrame(rng.normal(size=(90, 5)), columns=list("abcde"))
    frame.assign(label=["normal"] * 64 + ["anomaly"] * 16 + [""] * 10).to_csv(root / "table.csv", index=False)
    events = ["normal"] * 20 + ["anomaly"] * 4 + ["normal"] * 50 + ["anomaly"] * 16
    frame.assign(label=events).to_csv(root / "sensors.csv", index=False)
    return root


def write_small_image_sets(root: Path, rng: np.random.Generator) -> None:
    """MNIST, Fashion-MNIST and CIFAR-10 in their own files, with 300 training and 12 test images a class, of noise."""
    sizes = {"train": 300, "test": 12}
    for name in ("MNIST", "FashionMNIST"):
        folder = root / name / "raw"
        folder.mkdir(parents=True)
        for part, file in (("train", "train"), ("test", "t10k")):
            labels = np.repeat(np.arange(10, dtype=np.uint8), sizes[part])
            pixels = rng.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
            for array, kind in ((pixels, "images-idx3"), (labels, "labels-idx1")):
                head = np.array([0x0800 + array.ndim, *array.shape], dtype=">i4").tobytes()
                (folder / f"{file}-{kind}-ubyte").write_bytes(head + array.tobytes())
    arrays: dict[str, Any] = {}
    for part, n in sizes.items():
        arrays[f"{part}_labels"] = np.repeat(np.arange(10, dtype=np.uint8), n)
        arrays[f"{part}_images"] = rng.integers(0, 256, (10 * n, 32, 32, 3), dtype=np.uint8)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    np.savez(root / "cifar10.npz", classes=np.array(names), **arrays)


def described(part: Any) -> dict[str, Any]:
    """A part as class path and all of its arguments, also where a config has its name alone."""
    return with_defaults({"class_path": part} if isinstance(part, str) else part)


def data_options(config: dict[str, Any], own: Path) -> list[str] | None:
    """Where the config's data are; None when they are not on this machine."""
    name, arguments = config["data"]["class_path"], config["data"].get("init_args", {})
    if name == "FolderData":
        return [f"--data.root={own / 'images'}"]
    if name == "MVTecLayout":
        return [f"--data.root={own / 'defects'}"]
    if name == "TableData":
        return [f"--data.path={own / 'table.csv'}", "--data.label_column=label"]
    if name == "SoundData":
        here = find_spec("librosa") is not None and find_spec("soundfile") is not None
        return [f"--data.root={own / 'words'}", "--data.normal_class=marvin", "--data.seconds=0.1"] if here else None
    if name == "Windows":
        return [f"--data.path={own / 'sensors.csv'}", "--data.label_column=label", "--data.length=4"]
    options = source_options(arguments["source"], "--data.source", own, "words")
    if name == "OutOfDistribution" and options is not None:
        return [*options, *anomaly_options(arguments["anomaly_sources"], own)]
    if name != "LimitedNegatives" or options is None:
        return options
    close = described(arguments["close_negatives"])
    if close["class_path"] == "OtherSource":
        other = source_options(close["init_args"]["source"], "--data.close_negatives.init_args.source", own, "close")
        options += other or []
    return [*options, *(f"--data.{argument}=null" for argument in arguments if argument.startswith("n_"))]  # all


def anomaly_options(sources: dict[str, Any], own: Path) -> list[str]:
    """Where the anomalies are, few of each; of a source that is not on this machine a stand-in."""
    options = ["--data.anomaly_ratio=0.05"]
    for name, source in sources.items():
        flag = f"--data.anomaly_sources.{name}"
        there = source_options(source, flag, own, "words")
        stand_in = [f"{flag}=FlatFolder", f"{flag}.init_args.root={own / 'classes'}"]
        options += stand_in if there is None else there
    return options


def source_options(source: Any, flag: str, own: Path, words: str) -> list[str] | None:
    """Where a source's data are, with `flag` for the source; of stand-ins, smaller samples too."""
    (name, arguments), flag = described(source).values(), f"{flag}.init_args"
    if "path" in arguments:  # a file of one's own, as Npz has it
        file = ROOT / arguments["path"]
        return [f"{flag}.path={file}"] if file.exists() else None
    if "root" not in arguments and name != "Augmented":
        return []
    if name == "ImageFolder":
        return [f"{flag}.root={own / 'classes'}", f"{flag}.resize=[32,32]"]
    if name == "Augmented":  # all of CIFAR-10 would take seconds to rotate
        return [f"{flag}.source=ImageFolder", f"{flag}.source.init_args.root={own / 'classes'}"]
    if name == "SpeechCommands":
        here = find_spec("librosa") is not None and find_spec("soundfile") is not None
        small = [f"{flag}.cache={own / 'features'}", f"{flag}.n_frames=8"]
        return [f"{flag}.root={own / words}", *small] if here else None
    if name in ("MNIST", "FashionMNIST", "CIFAR10"):
        return [f"{flag}.root={own / 'data'}"]
    needed = {
        "SVHN": ["train_32x32.mat"],
        "LSUN": ["lsun"],
        "Omniglot": ["omniglot-py/images_evaluation"],
        "CIFAR100": ["cifar-100-python"],  # an .npz of it may hold the test part alone
        "Abalone": ["abalone/abalone.data"],
        "Epilepsy": ["epilepsy/data.csv"],
        "Odds": [f"odds/{arguments.get('dataset')}{suffix}" for suffix in (".mat", ".npz")],
    }
    assert name in needed, f"name in `needed` a file below data/ without which {name} cannot be read"
    if not any((ROOT / "data" / file).exists() for file in needed[name]):
        return None
    return [f"{flag}.root={ROOT / arguments['root']}"]


@cache
def _content(path: str) -> dict[str, Any]:
    """A config, for reading only; all of them are read while tests are found, so by libyaml."""
    content: dict[str, Any] = yaml.load((ROOT / path).read_text(), Loader=yaml.CSafeLoader)
    return content


@cache
def _combinations(path: str) -> frozenset[tuple[str, ...]]:
    """What of a config may go wrong by itself: the method on a kind of data, a datamodule with a source, the parts."""
    config = _content(path)
    model, data = config["model"], config["data"]
    arguments = data.get("init_args", {})
    table = data["class_path"] == "TableData" or _class_of(arguments.get("source")) in ("Odds", "Abalone", "Sphere")
    found: set[tuple[str, ...]] = {(model["class_path"], "table" if table else "other")}
    found |= {(data["class_path"], name, _class_of(arguments.get(name))) for name in ("source", "close_negatives")}
    found |= {(name, _class_of(value)) for name, value in detector_arguments(config).items() if _class_of(value)}
    return frozenset(found)


def _class_of(value: Any) -> str:
    return str(value.get("class_path", "")) if isinstance(value, dict) else value if isinstance(value, str) else ""


@cache
def _arguments(path: str) -> frozenset[tuple[str, ...]]:
    """The arguments that a config gives, each with the class that takes it."""
    return frozenset(_arguments_of(_content(path), ()))


def _arguments_of(value: Any, below: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        if name := value.get("class_path"):
            below = (*below[-1:], name)
        for key, given in value.items():
            yield (*below, key)
            yield from _arguments_of(given, (*below, key))
    elif isinstance(value, list):
        for given in value:
            yield from _arguments_of(given, below)


Parts = Callable[[str], frozenset[tuple[str, ...]]]


def _few(parts: Parts, without: frozenset[tuple[str, ...]] = frozenset()) -> list[str]:
    """Few configs that have every part between them: next the one with most that are new, digits first."""
    left = frozenset[tuple[str, ...]]().union(*map(parts, CONFIGS)) - without
    by_digits = sorted(CONFIGS, key=lambda path: (not path.endswith("/digits.yaml"), path))
    chosen = []
    while left:
        chosen.append(max(by_digits, key=lambda path: len(parts(path) & left)))
        left -= parts(chosen[-1])
    return chosen


FITTED = _few(_combinations)
PARSED = _few(_arguments, without=frozenset().union(*map(_arguments, FITTED)))
"""Every argument of every class that a config gives is in one of these or of those that are fitted."""


class Blocks:
    """Parsers of the parts of a config as `fit` has them; what many configs have in common is parsed once."""

    def __init__(self) -> None:
        registry.import_all()
        keep_names_as_written()
        self._parsed: set[str] = set()
        self._parsers = {key: AnomalyParser(parser_mode=PARSER_MODE, exit_on_error=False) for key in BLOCKS}
        self._parsers["model"].add_subclass_arguments(AnomalyDetector, "model")
        self._parsers["data"].add_subclass_arguments(AnomalyDataModule, "data")
        self._parsers["trainer"].add_lightning_class_args(Trainer, "trainer")

    def parse(self, config: dict[str, Any]) -> None:
        """Raises ArgumentError for what one of them does not take."""
        for key, parser in self._parsers.items():
            block = {key: config[key]}
            text = json.dumps(block, sort_keys=True)
            if text not in self._parsed:
                parser.parse_object(block)
                self._parsed.add(text)


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    return Blocks()


@pytest.mark.parametrize("path", slow_but(PARSED, CONFIGS))
def test_config_parses(path: str, blocks: Blocks) -> None:
    config = yaml.safe_load((ROOT / path).read_text())
    assert config.keys() - {"monitor"} == {*BLOCKS, "run_dir", "seed_everything"}
    data = config["data"]
    if needed := NEEDED.get(data["class_path"]):
        data["init_args"] = {**data.get("init_args", {}), **needed}
    blocks.parse(config)


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("model", {"class_path": "DeepSAD", "init_args": {"etta": 1}}),
        ("model", {"class_path": "DeepSAD", "init_args": {"encoder": "NoEncoder"}}),
        ("data", {"class_path": "OneVsAll", "init_args": {"source": "Digits", "normal": 3}}),
        ("trainer", {"max_epoch": 1}),
    ],
)
def test_a_wrong_block_of_a_config_does_not_parse(key: str, changed: dict[str, Any], blocks: Blocks) -> None:
    config = yaml.safe_load((ROOT / "configs/deep_sad/digits.yaml").read_text())
    blocks.parse(config)
    with pytest.raises(ArgumentError):
        blocks.parse({**config, key: changed})


def require_parsed(path: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", str(ROOT / path), "--print_config"])
    assert ended.value.code == 0


@pytest.mark.parametrize("path", slow_but(FITTED, CONFIGS))
def test_config_runs_one_batch(path: str, own: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / path).read_text())
    options = data_options(config, own)
    method, data = path.split("/")[1:]
    small = data.startswith(SMALL_DATA)
    if options is None or (method in (*SHALLOW, *KERNEL_RATIO, *SVMS) and not small):  # it is fitted on all samples
        require_parsed(path)
        pytest.skip("parsed only: its data are not here, or take too long to fit")
    init = detector_arguments(config)
    phase = [f"--model.{name}=0" for name in PHASES if argument(init, name)]
    encoder = init.get("encoder")
    encoder = encoder if isinstance(encoder, dict) else {"class_path": encoder, "init_args": {}}
    if config["model"]["class_path"] == "DensityRatio" and encoder["init_args"].get("weights"):
        phase.append("--model.encoder.weights=null")  # they would have to be downloaded
    if encoder["class_path"] in ("VGG11", "WideResNet10x4"):
        options = [*options, "--data.batch_size=2", "--data.eval_batch_size=2"]
        options += ["--model.encoder.head=compact"] if encoder["class_path"] == "VGG11" else []
    elif method in SEARCHED:
        phase += ["--model.search.n_steps=2", "--data.batch_size=8", "--data.eval_batch_size=4"]
    elif method in DCGAN_METHODS:
        phase += ["--data.batch_size=8", "--data.eval_batch_size=8"]
    elif method in WAIC_METHODS:
        phase += ["--model.n_members=2", "--data.batch_size=8", "--data.eval_batch_size=8"]
        phase += [f"--model.density.{size}=4" for size in ("steps", "width") if "density" in init]
    elif method in LIKELIHOODS:  # tests/benchmark builds them as they are
        phase += ["--model.density.filters=4", "--data.batch_size=4", "--data.eval_batch_size=4"]
    elif config["model"]["class_path"] in ("AMA", "SemiSupervisedAMA"):  # ten make one negative
        # a quarter as wide; tests/benchmark builds them as they are
        widths = {part: init[part]["init_args"]["width"] // 4 for part in ("encoder", "generator", "critic")}
        phase += [f"--model.{part}.width={width}" for part, width in widths.items()]
        phase += ["--data.batch_size=10", "--data.eval_batch_size=2", "--model.critic_turns.steps=1"]
    elif "ascent" in init or encoder["class_path"] in ("LSTMEncoder", "MobileNetV2Encoder") or "energy" in init:
        phase += ["--data.batch_size=8", "--data.eval_batch_size=8"]  # fifty steps, or a hundred of a series
    assert main(["fit", "--config", str(ROOT / path), f"--run_dir={tmp_path}", *options, *phase, *ONE_BATCH]) == 0
    assert (tmp_path / "scores.csv").is_file()
