"""Estimators of every shallow method, changed at any place of what skops wrote: a score or a message, never more."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hostile_cases import as_zip, damaged, drawn, places, put
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest as Forest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.tree._tree import NODE_DTYPE

from adlightning.shallow import (
    GMM,
    KDE,
    LOF,
    OCSVM,
    SSAD,
    IsolationForest,
    KernelULSIF,
    NearestNeighbor,
    ShallowDetector,
)
from adlightning.shallow.kernel import GaussianKDE, KernelExpansion, KernelRatio
from adlightning.shallow.persistence import from_bytes, to_bytes

X = np.random.default_rng(0).normal(size=(40, 3))
WHOLE: dict[str, tuple[type[ShallowDetector], Any]] = {
    "ocsvm": (OCSVM, KernelExpansion(X[:9], X[:9, 0].copy(), 0.5, 0.3)),
    "linear_ocsvm": (OCSVM, KernelExpansion(X[:9], X[:9, 0].copy(), 0.5, None)),
    "polynomial_ocsvm": (OCSVM, KernelExpansion(X[:9], X[:9, 0].copy(), 0.5, 0.3, 4, 1.0)),
    "ssad": (SSAD, KernelExpansion(X, X[:, 0].copy(), -0.5, 0.3)),
    "kde": (KDE, GaussianKDE(X, 1.5)),
    "ratio": (KernelULSIF, KernelRatio(X[:5], X[:5, 1], 0.7, np.float64(0.1))),
    "kliep": (KernelULSIF, KernelRatio(X[:5], X[:5, 1], 0.7, None)),
    "gmm": (GMM, GaussianMixture(2, random_state=0).fit(X)),
    "lof": (LOF, LocalOutlierFactor(n_neighbors=5, algorithm="brute", novelty=True).fit(X)),
    "nearest_neighbor": (NearestNeighbor, NearestNeighbors(n_neighbors=2, algorithm="brute").fit(X)),
    "forest": (IsolationForest, Forest(n_estimators=3, max_samples=16, random_state=0).fit(X)),
}


def members_of(name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(to_bytes(WHOLE[name][1]).numpy().tobytes())) as archive:
        return {member: archive.read(member) for member in archive.namelist()}


MEMBERS = {name: members_of(name) for name in WHOLE}
PLACES = {name: places(json.loads(members["schema.json"])) for name, members in MEMBERS.items()}
ODD: list[Any] = [
    *(
        None,
        0,
        -1,
        "x",
        "",
        [],
        {},
        10**12,
        "builtins.eval",
        "os.system",
        "numpy.ndarray",
        "1e400",
        "NaN",
        "-1",
        "null",
    ),
    *(
        "1000000000000",
        "-Infinity",
        '"x"',
        "[1]",
        "true",
        "ObjectNode",
        "NdArrayNode",
        "TreeNode",
        "DictNode",
        "CachedNode",
    ),
    *("SparseMatrixNode", "BytesNode", "schema.json", "json", {"__loader__": "MethodNode"}),
]


def score(name: str, members: dict[str, bytes]) -> NDArray[np.float64] | str:
    """Scores of the estimator that lies in these members, or the message with which it is refused."""
    detector, whole = WHOLE[name]
    data = torch.frombuffer(bytearray(as_zip(list(members.items()))), dtype=torch.uint8)
    try:
        estimator = from_bytes(data, type(whole), 3)
    except ValueError as error:
        return str(error)
    return detector().score_features(estimator, X[:7])


@st.composite
def changed(draw: st.DrawFn, name: str) -> dict[str, bytes]:
    """Members of an estimator, changed at one leaf of the schema or in one array."""
    members = dict(MEMBERS[name])
    if draw(st.booleans()):
        schema = json.loads(members["schema.json"])
        put(schema, draw(st.sampled_from(PLACES[name])), draw(st.sampled_from(ODD)))
        members["schema.json"] = json.dumps(schema).encode()
        return members
    arrays = sorted(member for member in members if member.endswith(".npy"))
    member = draw(st.sampled_from(arrays))
    kind = draw(st.sampled_from(["bytes", "value", "shape", "type", "other"]))
    if kind == "bytes":
        members[member] = draw(damaged([members[member]]))
    elif kind == "other":
        members[member] = members[draw(st.sampled_from(arrays))]
    else:
        members[member] = resaved(np.load(io.BytesIO(members[member])), kind, draw)
    return members


def resaved(array: NDArray[Any], kind: str, draw: st.DrawFn) -> bytes:
    """An array with another value at one place, or of another shape or type."""
    if kind == "value" and array.size:
        flat = array.reshape(-1)
        place = draw(st.integers(0, array.size - 1))
        field = draw(st.sampled_from(array.dtype.names)) if array.dtype.names else None
        target = flat[field] if field else flat
        odd = [0, -1, -2, 1, 99, 2**31 - 1] if target.dtype.kind in "iu" else [0, -1, 1e308, 1e-308, np.nan, np.inf]
        if target.dtype.kind in "iuf":
            target[place] = np.array(draw(st.sampled_from(odd))).astype(target.dtype)
    elif kind == "shape":
        shapes: list[Callable[[], NDArray[Any]]] = [
            *(lambda: array[:1], lambda: array[:0], lambda: array.reshape(-1), lambda: array[None]),
            lambda: np.asfortranarray(array),
            lambda: np.concatenate([array.reshape(-1), array.reshape(-1)]),
        ]
        array = draw(st.sampled_from(shapes))() if array.ndim else array[None]
    elif kind == "type" and not array.dtype.names:
        array = array.astype(draw(st.sampled_from(["f4", "i8", "c16", ">f8", "U3", "?"])))
    target_file = io.BytesIO()
    np.save(target_file, array)
    return target_file.getvalue()


@pytest.mark.parametrize("name", WHOLE)
def test_whole_ones_score(name: str) -> None:
    detector, whole = WHOLE[name]
    np.testing.assert_array_equal(score(name, MEMBERS[name]), detector().score_features(whole, X[:7]))


@pytest.mark.parametrize("name", WHOLE)
@drawn(60)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_change_is_refused_or_scores(name: str, data: st.DataObject) -> None:
    outcome = score(name, data.draw(changed(name)))
    if isinstance(outcome, str):
        assert outcome.startswith("the checkpoint's estimator")
        assert len(outcome) < 1000
    else:
        assert outcome.shape == (7,)
        assert outcome.dtype == np.float64


# ---- what crashed the process, or would ------------------------------------------------------------------------------


def with_array(
    name: str, like: Callable[[NDArray[Any]], bool], change: Callable[[NDArray[Any]], None]
) -> dict[str, bytes]:
    """Members in which the first array that is like this is changed."""
    members = dict(MEMBERS[name])
    for member, content in members.items():
        if member.endswith(".npy") and like(array := np.load(io.BytesIO(content))):
            change(array)
            target = io.BytesIO()
            np.save(target, array)
            members[member] = target.getvalue()
            return members
    raise AssertionError("there is no such array")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_child", 10**6),
        ("right_child", 10**6),
        ("left_child", 0),
        ("right_child", -5),
        ("feature", 3),
        ("feature", -7),
    ],
)
def test_trees_that_lead_nowhere(field: str, value: int) -> None:
    def change(nodes: NDArray[Any]) -> None:
        nodes[field][0] = value

    members = with_array("forest", lambda array: array.dtype == NODE_DTYPE, change)
    assert "its indices lead nowhere" in score("forest", members)


def test_more_nodes_than_there_are() -> None:
    """Scikit-learn takes the number for that of its nodes, and reads behind them."""
    schema = MEMBERS["forest"]["schema.json"].decode()
    at = schema.index('"node_count"')
    changed_schema = schema[:at] + schema[at:].replace('"content": "', '"content": "99999', 1)
    np.testing.assert_array_equal(
        score("forest", {**MEMBERS["forest"], "schema.json": changed_schema.encode()}),
        score("forest", MEMBERS["forest"]),
    )


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("member", ["a.npz", "b.bin", "schema.json/x", "nested.zip"])
def test_nested_archives_are_refused(name: str, member: str) -> None:
    inner = as_zip([("data.npy", bytes(10))])
    assert "more than arrays" in score(name, {**MEMBERS[name], member: inner})


def test_an_archive_in_the_place_of_an_array() -> None:
    name = next(member for member in MEMBERS["kde"] if member.endswith(".npy"))
    assert "no array" in score("kde", {**MEMBERS["kde"], name: as_zip([("a.npy", bytes(10))])})


def test_another_number_of_features_is_refused() -> None:
    for whole in (estimator for _, estimator in WHOLE.values()):
        with pytest.raises(ValueError, match=r"must have the shape|lead nowhere"):
            from_bytes(to_bytes(whole), type(whole), 2)
