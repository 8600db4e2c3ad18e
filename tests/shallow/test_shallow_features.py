"""Features: what each map computes, and where a torchvision network's weights come from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from shallow_cases import UNIT, auroc_on_test, codes, fit, images, make, raw_test_input, table, torchvision
from short_fits import slow_but
from sklearn.decomposition import PCA
from torchvision import models

from adlightning.checkpoints.loading import load_detector
from adlightning.networks import LeNetEncoder
from adlightning.networks.torchvision_layer import TorchvisionLayer
from adlightning.shallow import NearestNeighbor
from adlightning.shallow.features import BackboneFeatures, PCAFeatures


def test_raw_features_are_the_flattened_preprocessed_samples(make_trainer: MakeTrainer) -> None:
    detector, data = make("nearest_neighbor", **UNIT), images()
    fit(make_trainer, detector, data)
    x = raw_test_input(data)[:3]
    assert np.array_equal(detector.represent(x), (x.flatten(1) / 255).numpy())


def test_principal_components_are_those_of_samples_not_known_as_anomalies(make_trainer: MakeTrainer) -> None:
    detector, data = make("ssad", features=PCAFeatures(components=3)), table()
    fit(make_trainer, detector, data)
    x = data.train_samples.x
    assert isinstance(x, torch.Tensor)
    normal = detector.preprocess(x[torch.from_numpy(data.split.train[data.split.known != -1])]).double().numpy()
    test = detector.preprocess(raw_test_input(data))
    expected = PCA(3, svd_solver="full").fit(normal).transform(test.double().numpy())
    actual = detector.represent(raw_test_input(data))
    np.testing.assert_allclose(np.abs(actual), np.abs(expected), atol=1e-4)


def test_a_share_of_the_variance_takes_as_few_components_as_keep_it(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    detector, data = make("isolation_forest", features=PCAFeatures(components=0.7)), table()
    trainer = fit(make_trainer, detector, data)
    x = data.train_samples.x
    assert isinstance(x, torch.Tensor)
    trained = detector.preprocess(x[torch.from_numpy(data.split.train[data.split.known != -1])]).double().numpy()
    ratios = PCA(svd_solver="full").fit(trained).explained_variance_ratio_.cumsum()
    few = int(np.searchsorted(ratios, 0.7)) + 1
    assert 1 < few < trained.shape[1]
    test = raw_test_input(data)
    expected = PCA(few, svd_solver="full").fit(trained).transform(detector.preprocess(test).double().numpy())
    np.testing.assert_allclose(np.abs(detector.represent(test)), np.abs(expected), atol=1e-4)
    trainer.save_checkpoint(tmp_path / "d.ckpt")
    again = load_detector(tmp_path / "d.ckpt")
    assert len(again.state_dict()["feature_map.pca.directions"]) == few  # and no more is kept
    torch.testing.assert_close(again.anomaly_score(test), detector.anomaly_score(test), rtol=0, atol=0)


def test_a_share_of_numpys_is_kept_as_a_plain_number() -> None:
    assert type(PCAFeatures(components=np.float64(0.8)).components) is float
    assert PCAFeatures(components=[np.int64(2), np.int64(3)]).dimensions() == [2, 3]  # type: ignore[list-item]


def test_other_directions_than_the_arguments_say_are_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    for components, wrong in ((3, 4), (0.7, 0)):
        detector = make("kde", features=PCAFeatures(components=components))
        fit(make_trainer, detector, table()).save_checkpoint(tmp_path / "d.ckpt")
        checkpoint = torch.load(tmp_path / "d.ckpt", weights_only=True)
        checkpoint["state_dict"]["feature_map.pca.directions"] = torch.ones(wrong, 6)
        torch.save(checkpoint, tmp_path / "other.ckpt")
        with pytest.raises(ValueError, match=r"feature_map.pca.(directions|kept) must"):
            load_detector(tmp_path / "other.ckpt")


def test_a_selection_on_a_share_of_the_variance(make_trainer: MakeTrainer) -> None:
    detector, data = make("ocsvm", features=PCAFeatures(components=0.6), selection="oracle"), table()
    fit(make_trainer, detector, data)
    size = detector.represent(raw_test_input(data)).shape[1]
    assert size == detector.training_record["chosen"]["features.components"] == detector.feature_map.size
    assert 0 < size < 6


@pytest.mark.parametrize("components", [0, -3, 0.0, 1.0, 20.0, float("nan"), True, None, [5, 0.5], []])
def test_components_that_are_none_are_refused(components: Any) -> None:
    with pytest.raises(ValueError, match=r"components must be "):
        PCAFeatures(components=components)


def test_a_selection_keeps_the_first_components(make_trainer: MakeTrainer) -> None:
    detector, data = make("gmm", features=PCAFeatures(components=[5, 2]), selection="oracle"), table()
    fit(make_trainer, detector, data)
    kept = detector.training_record["chosen"]["features.components"]
    z = detector.represent(raw_test_input(data))
    assert z.shape[1] == kept == detector.estimator.means_.shape[1]
    assert detector.feature_map.size == 5


def test_more_components_than_samples_are_refused(make_trainer: MakeTrainer) -> None:
    detector = make("kde", features=PCAFeatures(components=200), **UNIT)
    with pytest.raises(ValueError, match=r"features.components must be at most \d+, the number of training samples"):
        fit(make_trainer, detector, images())


@pytest.mark.parametrize("components", [None, 5])
@pytest.mark.parametrize("name", slow_but(["nearest_neighbor"], ["ocsvm", "nearest_neighbor", "isolation_forest"]))
def test_anomalies_score_higher_on_features_of_a_random_network(
    make_trainer: MakeTrainer, tmp_path: Path, name: str, components: int | None
) -> None:
    detector, data = make(name, **torchvision(components=components)), images()
    with pytest.warns(UserWarning, match="features.weights is null") as caught:
        trainer = fit(make_trainer, detector, data)
    said = " ".join(str(warning.message) for warning in caught)
    assert "features of a random squeezenet1_1 are a random projection" in said
    assert "eval mode" not in said
    assert auroc_on_test(trainer, detector, data) > 0.9
    trainer.save_checkpoint(tmp_path / "d.ckpt")
    x = raw_test_input(data)[:20]
    whole = detector.anomaly_score(x)
    single = torch.cat([detector.anomaly_score(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(single, whole, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(load_detector(tmp_path / "d.ckpt").anomaly_score(x), whole)


def test_the_autoencoder_of_images_gives_codes(make_trainer: MakeTrainer) -> None:
    detector, data = (
        make(
            "kde",
            features=codes(partial(LeNetEncoder, rep_dim=16), lr=3e-3),
            **UNIT,
        ),
        images(),
    )
    trainer = fit(make_trainer, detector, data, epochs=10)
    assert detector.represent(raw_test_input(data)[:3]).shape == (3, 16)
    assert auroc_on_test(trainer, detector, data) > 0.9


def test_weights_come_from_a_file_once(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.manual_seed(7)
    network = models.squeezenet1_1().eval()
    torch.save(network.state_dict(), file)
    options = torchvision(weights=str(file))
    detector, data = make("nearest_neighbor", **options), images()
    trainer = fit(make_trainer, detector, data)
    raw = raw_test_input(data)[:4]
    x = detector.preprocess(raw)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = network.features((x.expand(-1, 3, -1, -1) - mean.view(3, 1, 1)) / std.view(3, 1, 1)).flatten(1)
    torch.testing.assert_close(torch.from_numpy(detector.represent(raw)).float(), expected)
    trainer.save_checkpoint(tmp_path / "d.ckpt")
    file.unlink()  # the checkpoint is a whole detector
    loaded = load_detector(tmp_path / "d.ckpt")
    assert isinstance(loaded, NearestNeighbor)
    torch.testing.assert_close(torch.from_numpy(loaded.represent(raw)).float(), expected)
    make_trainer(max_epochs=2).fit(
        make("nearest_neighbor", **options), datamodule=images(), ckpt_path=tmp_path / "d.ckpt", weights_only=True
    )


def test_the_networks_weights_do_not_move(make_trainer: MakeTrainer) -> None:
    detector, data = make("nearest_neighbor", **torchvision()), images()
    data.setup("fit")
    detector.configure_for(data.input_spec)
    before = {name: value.clone() for name, value in detector.feature_map.state_dict().items() if "ready" not in name}
    fit(make_trainer, detector, data)
    assert all(torch.equal(value, detector.feature_map.state_dict()[name]) for name, value in before.items())


def _weights(tmp_path: Path, content: Any) -> str:
    file = tmp_path / "weights.pt"
    torch.save(content, file)
    return str(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(1)}, r"features.weights: .* lacks features.0.weight and \d+ others"),
        (torch.zeros(1), "must hold a state_dict, got Tensor"),
        (Path("x"), "is truncated, corrupt or holds pickled objects"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    make_trainer: MakeTrainer, tmp_path: Path, content: object, message: str
) -> None:
    options = torchvision(weights=_weights(tmp_path, content))
    with pytest.raises(ValueError, match=message):
        fit(make_trainer, make("kde", **options), images())


def test_weights_of_another_size_are_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    state = {key: torch.zeros(1) for key in models.squeezenet1_1().state_dict()}
    options = torchvision(weights=_weights(tmp_path, state))
    with pytest.raises(ValueError, match="does not fit squeezenet1_1"):
        fit(make_trainer, make("kde", **options), images())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "lenet"}, "features.name must be the name of a torchvision network, got 'lenet'"),
        ({"layer": "nowhere"}, r"features.layer must be a layer of squeezenet1_1 .* got 'nowhere'"),
        ({"weights": "nowhere.pt"}, "features.weights must be a file, null or one of .* got nowhere.pt"),
        ({"name": "alexnet", "resize": 16}, r"features.name: alexnet needs larger images than \(1, 16, 16\)"),
    ],
)
def test_networks_that_do_not_fit_are_refused(make_trainer: MakeTrainer, changed: dict[str, Any], message: str) -> None:
    detector = make("kde", **torchvision(**changed))
    with pytest.raises(ValueError, match=message):
        fit(make_trainer, detector, images())


def test_other_input_than_grey_or_coloured_images_is_refused() -> None:
    for shape in ((6,), (2, 32, 32)):
        with pytest.raises(ValueError, match="takes images of 1 or 3 channels"):
            BackboneFeatures("squeezenet1_1", weights=None).build(shape, "sigmoid")


def test_a_residual_networks_layer_is_found_by_name() -> None:
    layer = TorchvisionLayer((3, 32, 32), "resnet18", "layer4", None)
    assert layer.size == 512
    assert layer(torch.zeros(2, 3, 32, 32)).shape == (2, 512, 1, 1)
