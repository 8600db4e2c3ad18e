"""Hostile checkpoints: nothing in them is run, and nothing larger than they are is made of them."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from hostile_cases import ODD_VALUES, as_zip, damaged, drawn, places, put, works_or_is_refused
from hypothesis import given, strategies as st
from refusals import Touch, refused
from skops import io as skops
from torch import Tensor

from adlightning.checkpoints.loading import load_detector, read_checkpoint
from adlightning.core.contracts import CHECKPOINT_FORMAT, InputSpec
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import class_path, described
from adlightning.data.labelled import AnomalyLabelled
from adlightning.methods.autoencoder import Autoencoder
from adlightning.methods.deep_svdd import DeepSVDD
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import StandardizeFeatures
from adlightning.shallow import GMM, KDE, IsolationForest
from adlightning.shallow.persistence import to_bytes
from adlightning.testing import Blobs

SPEC = InputSpec("table", (3,), "t.csv", features=("a", "b", "c"), ignored=("label",), name_column="id")
X = np.random.default_rng(0).normal(size=(40, 3))
ODD: list[Any] = [*ODD_VALUES, torch.zeros(3), torch.zeros(0), torch.zeros(2, dtype=torch.complex64), (1,)]


LIGHTNING = {"pytorch-lightning_version": "2.6.0"}


def content_of(detector: AnomalyDetector, estimator: Tensor | None = None) -> dict[str, Any]:
    """What a trained detector's checkpoint holds, as far as this package reads it."""
    torch.manual_seed(0)
    detector.configure_for(SPEC)
    detector.preprocess.fit(lambda: [torch.from_numpy(X).float()])
    detector.threshold.fill_(1.0)
    saved = {
        "format": CHECKPOINT_FORMAT,
        "class": class_path(type(detector)),
        "hyperparameters": described(detector.arguments),
        "input": SPEC.as_dict(),
        "config": None,
        "training": {"epochs": 1, "seed": 0, "split": "0", "threshold_from": "training"},
    } | ({} if estimator is None else {"estimator": estimator})
    return {"state_dict": detector.state_dict(), "adlightning": saved, "epoch": 1, "global_step": 1, **LIGHTNING}


def as_file(content: Any) -> bytes:
    target = io.BytesIO()
    torch.save(content, target)
    return target.getvalue()


NETWORK = content_of(Autoencoder(encoder=partial(MLPEncoder, dense=[8], rep_dim=2), preprocessing=StandardizeFeatures))


def estimators() -> dict[str, tuple[AnomalyDetector, Any]]:
    from sklearn.ensemble import IsolationForest as Forest
    from sklearn.mixture import GaussianMixture

    from adlightning.shallow.kernel import GaussianKDE

    return {
        "gmm": (GMM(preprocessing=StandardizeFeatures), GaussianMixture(2, random_state=0).fit(X)),
        "kde": (KDE(preprocessing=StandardizeFeatures), GaussianKDE(X, 1.0)),
        "forest": (IsolationForest(preprocessing=StandardizeFeatures), Forest(n_estimators=4, random_state=0).fit(X)),
    }


@pytest.fixture(scope="module")
def fitted() -> dict[str, dict[str, Any]]:
    return {name: content_of(detector, to_bytes(own)) for name, (detector, own) in estimators().items()}


def load_and_score(path: Path) -> None:
    scores = load_detector(path).anomaly_score(torch.from_numpy(X[:5]).float())
    assert scores.shape == (5,)


@pytest.mark.parametrize("name", ["network", "gmm", "kde", "forest"])
def test_whole_ones_are_loaded(tmp_path: Path, fitted: dict[str, Any], name: str) -> None:
    (tmp_path / "a.ckpt").write_bytes(as_file({"network": NETWORK, **fitted}[name]))
    load_and_score(tmp_path / "a.ckpt")


@drawn(40)
@given(content=damaged([as_file(NETWORK)]))
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    works_or_is_refused(lambda: load_and_score(tmp_path / "a.ckpt"))


@drawn(80)
@given(data=st.data())
def test_any_value_in_the_place_of_another(tmp_path: Path, data: st.DataObject) -> None:
    content = copy.deepcopy(NETWORK)
    place = data.draw(st.sampled_from([p for p in places(content) if p[0] in ("adlightning", "state_dict")]))
    put(content, place, data.draw(st.sampled_from(ODD)))
    (tmp_path / "a.ckpt").write_bytes(as_file(content))
    message = works_or_is_refused(lambda: read_checkpoint(tmp_path / "a.ckpt"))
    if message is not None:
        assert "a.ckpt" in message
    works_or_is_refused(lambda: load_detector(tmp_path / "a.ckpt"))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("class",), [0], "class is of the wrong type"),  # TypeError, unhashable
        (("class",), "x" * 5000, "class has a name"),
        (("class",), "Unknown", "a.ckpt"),
        (("input",), 10**30, "input is of the wrong type"),  # AttributeError
        (("input", "shape"), [10**6, 10**6, 10**6], "shape of table input must be 1 whole"),
        (("input", "shape"), [-3], "shape of an input must be positive"),
        (("input", "kind"), "sound", "kind of an input"),
        (("input", "features"), [1, 2, 3], "features of an input"),
        (("hyperparameters", "encoder", "init_args", "dense"), ["a"], "encoder cannot be made"),
        (("hyperparameters", "there_is_none"), 1, "arguments do not fit"),
        (("hyperparameters", "encoder", "init_args", "rep_dim"), 10**30, "a.ckpt"),
        (("format",), torch.zeros(3), "format"),  # RuntimeError, a tensor is neither true nor false
        (("input", "channels"), torch.zeros(3), "plain values only"),
        (("hyperparameters", "weight_init"), torch.zeros(3), "plain values only"),
        (("training",), {}, "training lacks seed, split"),
        (("config",), ["x"], "config is of the wrong type"),
    ],
)
@pytest.mark.parametrize("verb", ["score", "test"])
def test_what_a_checkpoint_says_of_itself_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: tuple[str, ...], value: Any, words: str, verb: str
) -> None:
    content = copy.deepcopy(NETWORK)
    put(content["adlightning"], place, value)
    (tmp_path / "a.ckpt").write_bytes(as_file(content))
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n")
    more = [f"--data={tmp_path / 't.csv'}", f"--out={tmp_path / 's.csv'}", "--device=cpu"] if verb == "score" else []
    refused(capsys, [verb, f"--ckpt_path={tmp_path / 'a.ckpt'}", *more], "a.ckpt", words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "t.csv"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("encoder", "class_path"), "x" * 100_000 + ".ViT"),
        (("encoder",), {"class_path": "x", "init_args": {}, "more": "x" * 100_000}),
        (("weight_init",), "x" * 100_000),
        (("encoder", "init_args", "dense"), [-1] * 50_000),
    ],
)
def test_what_is_said_of_a_long_value_is_short(tmp_path: Path, place: tuple[str, ...], value: Any) -> None:
    content = copy.deepcopy(NETWORK)
    put(content["adlightning"]["hyperparameters"], place, value)
    (tmp_path / "a.ckpt").write_bytes(as_file(content))
    with pytest.raises(ValueError, match=r"a\.ckpt is refused") as refusal:
        load_detector(tmp_path / "a.ckpt")
    assert len(str(refusal.value)) < 2600


# ---- code -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "pickle", "legacy", "value", "estimator", "member"])
def test_pickles_are_never_run(tmp_path: Path, fitted: dict[str, Any], form: str) -> None:
    hostile, path = Touch(tmp_path / "was_run"), tmp_path / "a.ckpt"
    if form == "legacy":
        torch.save(hostile, path, _use_new_zipfile_serialization=False)
    elif form == "estimator":
        code = torch.frombuffer(bytearray(pickle.dumps(hostile)), dtype=torch.uint8)
        path.write_bytes(as_file({**fitted["kde"], "adlightning": fitted["kde"]["adlightning"] | {"estimator": code}}))
    elif form == "value":
        path.write_bytes(as_file({**NETWORK, "callbacks": hostile}))
    else:
        dumped = pickle.dumps(hostile)
        path.write_bytes({"zip": as_file(hostile), "pickle": dumped, "member": as_zip([("a/data.pkl", dumped)])}[form])
    with pytest.raises(ValueError, match=r"a\.ckpt"):
        load_detector(path)
    assert not (tmp_path / "was_run").exists()


# ---- training's own state --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pytorch-lightning_version", None),
        ("pytorch-lightning_version", 3),
        ("loops", 0),  # TypeError
        ("callbacks", True),  # AttributeError
        ("optimizer_states", {}),
        ("lr_schedulers", "x"),
        ("epoch", "x"),
        ("global_step", [0]),
    ],
)
def test_what_lightning_reads_is_of_its_types(tmp_path: Path, name: str, value: Any) -> None:
    (tmp_path / "a.ckpt").write_bytes(as_file({**NETWORK, name: value}))
    with pytest.raises(ValueError, match=r"a\.ckpt is refused: it"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_scoring_takes_nothing_of_trainings_state(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=64, seed=0)
    detector = Autoencoder(encoder=partial(MLPEncoder, dense=[8], rep_dim=2), preprocessing=StandardizeFeatures)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    odd = {"loops": {"test_loop": {"batch_progress": -1}}, "callbacks": {"x": 1}, "optimizer_states": [1]}
    torch.save({**content, **odd}, tmp_path / "odd.ckpt")
    (own,) = make_trainer().test(
        detector, datamodule=data, ckpt_path=tmp_path / "a.ckpt", weights_only=True, verbose=False
    )
    (of_odd,) = make_trainer().test(
        detector, datamodule=data, ckpt_path=tmp_path / "odd.ckpt", weights_only=True, verbose=False
    )
    assert own == of_odd


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_compressed_parts_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(as_file(NETWORK))) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    (tmp_path / "a.ckpt").write_bytes(as_zip(members, zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="compressed parts"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_arguments_for_which_a_network_would_fill_the_memory(tmp_path: Path) -> None:
    content = copy.deepcopy(NETWORK)
    content["adlightning"]["hyperparameters"]["encoder"]["init_args"]["dense"] = [10**6, 10**6]  # 8 TB
    (tmp_path / "a.ckpt").write_bytes(as_file(content))
    with pytest.raises(ValueError, match="weights do not fit a Autoencoder"):
        load_detector(tmp_path / "a.ckpt")
    content["adlightning"]["hyperparameters"]["encoder"]["init_args"]["dense"] = [2**62, 2**62]
    (tmp_path / "a.ckpt").write_bytes(as_file(content))
    with pytest.raises(ValueError, match=r"a\.ckpt is refused: .* a Autoencoder that no memory could hold"):
        load_detector(tmp_path / "a.ckpt")
    with torch.device("meta"):
        big = Autoencoder(
            encoder=partial(MLPEncoder, dense=[10**6, 10**6], rep_dim=2), preprocessing=StandardizeFeatures
        )
        big.configure_for(SPEC)
    claims = {name: torch.zeros(()).expand(value.shape) for name, value in big.state_dict().items()}
    (tmp_path / "a.ckpt").write_bytes(as_file({**content, "state_dict": claims}))
    with pytest.raises(ValueError, match="tensors claim"):
        load_detector(tmp_path / "a.ckpt")


def test_values_that_are_spread_out_by_repetition(tmp_path: Path) -> None:
    many: list[Any] = ["x"] * 10
    for _ in range(10):
        many = [many] * 10
    deep: list[Any] = []
    for _ in range(150):
        deep = [deep]
    for value in (many, deep):
        (tmp_path / "a.ckpt").write_bytes(as_file({**NETWORK, "callbacks": value}))
        with pytest.raises(ValueError, match=r"values in 100 levels|refused"):
            read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "odd",
    [
        torch.eye(2).to_sparse(),
        torch.zeros(2, device="meta"),
        torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8),
    ],
)
def test_tensors_of_other_kinds_are_refused(tmp_path: Path, odd: Tensor) -> None:
    state = {**NETWORK["state_dict"], "threshold": odd}
    (tmp_path / "a.ckpt").write_bytes(as_file({**NETWORK, "state_dict": state}))
    with pytest.raises(ValueError, match=r"a\.ckpt"):
        load_detector(tmp_path / "a.ckpt")


def test_weights_of_another_detector_are_told_apart_in_words(tmp_path: Path) -> None:
    other = content_of(DeepSVDD(encoder=partial(MLPEncoder, dense=[8], rep_dim=2), preprocessing=StandardizeFeatures))
    other["adlightning"] |= {name: NETWORK["adlightning"][name] for name in ("class", "hyperparameters")}
    (tmp_path / "a.ckpt").write_bytes(as_file(other))
    with pytest.raises(ValueError, match=r"weights do not fit a Autoencoder: \d+ differ; .* must have the shape"):
        read_checkpoint(tmp_path / "a.ckpt")


# ---- estimators -----------------------------------------------------------------------------------------------------


def with_estimator(content: dict[str, Any], estimator: bytes) -> bytes:
    tensor = torch.frombuffer(bytearray(estimator or b"\x00"), dtype=torch.uint8)
    return as_file({**content, "adlightning": content["adlightning"] | {"estimator": tensor}})


@drawn(60)
@given(data=st.data())
def test_damaged_estimators(tmp_path: Path, fitted: dict[str, Any], data: st.DataObject) -> None:
    content = fitted[data.draw(st.sampled_from(sorted(fitted)))]
    whole = content["adlightning"]["estimator"].numpy().tobytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = data.draw(st.sampled_from(sorted(members)))
    if name.endswith(".json"):
        schema = json.loads(members[name])
        odd: list[Any] = [None, 0, -1, "x", [], {}, 10**12, "builtins.eval", "os.system", "numpy.ndarray"]
        put(schema, data.draw(st.sampled_from(places(schema))), data.draw(st.sampled_from(odd)))
        members[name] = json.dumps(schema).encode()
    else:
        members[name] = data.draw(damaged([members[name]]))
    (tmp_path / "a.ckpt").write_bytes(with_estimator(content, as_zip(list(members.items()))))
    works_or_is_refused(lambda: load_and_score(tmp_path / "a.ckpt"))


def test_an_estimator_whose_array_has_a_broken_header(tmp_path: Path, fitted: dict[str, Any]) -> None:
    with zipfile.ZipFile(io.BytesIO(fitted["gmm"]["adlightning"]["estimator"].numpy().tobytes())) as archive:
        members = [(name, archive.read(name).replace(b"}", b" ")) for name in archive.namelist()]
        members = [(name, archive.read(name) if name.endswith("json") else content) for name, content in members]
    (tmp_path / "a.ckpt").write_bytes(with_estimator(fitted["gmm"], as_zip(members)))  # TokenError
    with pytest.raises(ValueError, match=r"a\.ckpt.*estimator is damaged or refused"):
        load_detector(tmp_path / "a.ckpt")


def test_a_compressed_estimator_is_refused_before_it_is_unpacked(tmp_path: Path, fitted: dict[str, Any]) -> None:
    _, own = estimators()["gmm"]
    estimator = skops.dumps(own, compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "a.ckpt").write_bytes(with_estimator(fitted["gmm"], estimator))
    with pytest.raises(ValueError, match="compressed parts"):
        load_detector(tmp_path / "a.ckpt")
