from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor

from adlightning.core.contracts import InputSpec
from adlightning.core.prepared import prepared_for
from adlightning.preprocessing import (
    GlobalContrastL1,
    Identity,
    Preprocessing,
    StandardizeChannels,
    StandardizeFeatures,
    StandardizeMinMax,
    SymmetricRange,
    UnitRange,
)
from adlightning.preprocessing.images import resized

BY_NAME: dict[str, Callable[..., Preprocessing]] = {
    "unit": UnitRange,
    "symmetric": SymmetricRange,
    "standardize_channels": StandardizeChannels,
    "standardize_cifar10": partial(StandardizeChannels, statistics="cifar10"),
    "standardize_mnist": partial(StandardizeChannels, statistics="mnist"),
    "standardize_imagenet": partial(StandardizeChannels, statistics="imagenet"),
    "standardize": StandardizeFeatures,
    "standardize_offset": partial(StandardizeFeatures, offset=1e-4),
    "standardize_minmax": StandardizeMinMax,
    "gcn_l1": GlobalContrastL1,
    "identity": Identity,
}

IMAGE = InputSpec("image", (3, 6, 6))
TABLE = InputSpec("table", (4,))
SERIES = InputSpec("series", (5, 2))
FOR_FEATURES = ("standardize", "standardize_offset", "standardize_minmax", "identity")
EVERY = [
    *((name, IMAGE) for name in ("unit", "symmetric", "standardize_channels", "gcn_l1", "identity")),
    *((name, spec) for spec in (TABLE, SERIES) for name in FOR_FEATURES),
]
every = pytest.mark.parametrize(("name", "spec"), EVERY, ids=[f"{spec.kind}-{name}" for name, spec in EVERY])


def samples(spec: InputSpec, n: int = 23, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if spec.kind == "image":
        return torch.randint(0, 256, (n, *spec.shape), generator=generator, dtype=torch.uint8)
    return torch.randn(n, *spec.shape, generator=generator) * 5 + 100


def in_batches(x: Tensor, size: int) -> Callable[[], Iterable[Tensor]]:
    return lambda: torch.split(x, size)


def pixels(*rows: list[int]) -> Tensor:
    return torch.tensor(rows, dtype=torch.uint8)[None, None]


def build(name: str, spec: InputSpec, **options: Any) -> Preprocessing:
    return BY_NAME[name](spec.shape, **options)


# ---- images ----------------------------------------------------------------------------------------------------------


def test_ranges_by_hand() -> None:
    x = pixels([0, 51, 255])
    torch.testing.assert_close(UnitRange((1, 1, 3))(x), torch.tensor([[[[0.0, 0.2, 1.0]]]]))
    torch.testing.assert_close(SymmetricRange((1, 1, 3))(x), torch.tensor([[[[-1.0, -0.6, 1.0]]]]))
    assert torch.equal(Identity((1, 1, 3))(x), torch.tensor([[[[0.0, 51.0, 255.0]]]]))


def test_channels_by_hand() -> None:
    step = StandardizeChannels((2, 1, 2))
    x = torch.tensor([[[[0, 255]], [[51, 51]]], [[[0, 255]], [[51, 51]]]], dtype=torch.uint8)
    step.fit(lambda: [x])
    torch.testing.assert_close(step.mean, torch.tensor([0.5, 0.2]))
    torch.testing.assert_close(step.std, torch.tensor([0.5, 1.0]))  # the second channel is constant: divided by 1
    y = step(torch.tensor([[[[255]], [[102]]]], dtype=torch.uint8))
    torch.testing.assert_close(y, torch.tensor([[[[1.0]], [[0.2]]]]))


def test_channels_have_unit_moments_on_training_data() -> None:
    x = samples(IMAGE)
    step = StandardizeChannels(IMAGE.shape)
    step.fit(in_batches(x, 5))
    y = step(x)
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-6, rtol=0)


def test_known_channels_by_hand_without_fitting() -> None:
    # in [0, 1] the pixel is (0.2, 0.4, 1)
    cifar = build("standardize_cifar10", InputSpec("image", (3, 1, 1)))
    y = cifar(torch.tensor([51, 102, 255], dtype=torch.uint8).view(1, 3, 1, 1))
    expected = [(0.2 - 0.4914) / 0.247, (0.4 - 0.4822) / 0.243, (1 - 0.4465) / 0.261]
    torch.testing.assert_close(y.flatten(), torch.tensor(expected))
    mnist = build("standardize_mnist", InputSpec("image", (1, 1, 2)))
    expected = [-0.1307 / 0.3081, (0.2 - 0.1307) / 0.3081]
    torch.testing.assert_close(mnist(pixels([0, 51])).flatten(), torch.tensor(expected))
    imagenet = build("standardize_imagenet", InputSpec("image", (3, 1, 1)))
    y = imagenet(torch.tensor([51, 102, 255], dtype=torch.uint8).view(1, 3, 1, 1))
    expected = [(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    torch.testing.assert_close(y.flatten(), torch.tensor(expected))
    assert bool(cifar.fitted)
    assert bool(mnist.fitted)
    assert bool(imagenet.fitted)
    assert cifar.output == mnist.output == "linear"


def test_known_channels_come_after_resizing_and_padding() -> None:
    step = build("standardize_mnist", InputSpec("image", (1, 2, 2)), resize=1, pad=1)
    expected = torch.full((1, 1, 3, 3), -0.1307 / 0.3081)  # the padding is black before it is standardised
    expected[0, 0, 1, 1] = (100 / 255 - 0.1307) / 0.3081  # the mean of 0, 100, 50, 250
    torch.testing.assert_close(step(pixels([0, 100], [50, 250])), expected)


@pytest.mark.parametrize(("name", "known", "channels"), [("standardize_cifar10", 3, 1), ("standardize_mnist", 1, 3)])
def test_known_channels_of_other_images_are_refused(name: str, known: int, channels: int) -> None:
    message = f"statistics={name.rpartition('_')[2]} are of {known} channels, the images have {channels}"
    with pytest.raises(ValueError, match=message):
        build(name, InputSpec("image", (channels, 4, 4)))


def test_gcn_by_hand() -> None:
    # mean 50, deviations -50 -10 10 50, mean absolute deviation 30
    contrast = torch.tensor([[[[-5 / 3, -1 / 3], [1 / 3, 5 / 3]]]])
    x = pixels([0, 40], [60, 100])
    step = GlobalContrastL1((1, 2, 2))
    step.fit(lambda: [x])
    assert (step.low.item(), step.high.item()) == pytest.approx((-5 / 3, 5 / 3))
    torch.testing.assert_close(step(x), (contrast + 5 / 3) / (10 / 3))
    # deviations -30 -10 -10 50 over 25: beyond the training maximum, and not clipped
    outside = torch.tensor([[[[-1.2, -0.4], [-0.4, 2.0]]]])
    torch.testing.assert_close(step(pixels([0, 20], [20, 80])), (outside + 5 / 3) / (10 / 3))


def test_gcn_takes_one_scale_over_all_channels() -> None:
    x = torch.tensor([[[[0]], [[200]]]], dtype=torch.uint8)  # two channels of one pixel: mean 100, deviation 100
    step = GlobalContrastL1((2, 1, 1))
    step.fit(lambda: [x])
    assert torch.equal(step(x), torch.tensor([[[[0.0]], [[1.0]]]]))


def test_gcn_of_a_constant_image_is_zero_contrast() -> None:
    step = GlobalContrastL1((1, 2, 2))
    step.fit(lambda: [pixels([0, 40], [60, 100])])
    torch.testing.assert_close(step(pixels([7, 7], [7, 7])), torch.full((1, 1, 2, 2), 0.5))
    step.fit(lambda: [pixels([7, 7], [7, 7])])  # nothing but constant images to learn from
    assert torch.equal(step(pixels([7, 7], [7, 7])), torch.zeros(1, 1, 2, 2))


def test_resize_and_pad() -> None:
    x = pixels([0, 100], [50, 250])
    padded = UnitRange((1, 2, 2), pad=1)(x)[0, 0]
    assert torch.equal(padded, torch.nn.functional.pad(x[0, 0].float() / 255, (1, 1, 1, 1)))
    assert torch.equal(resized(x, (1, 1)), pixels([100]))  # the mean of 0, 100, 50, 250
    assert torch.equal(resized(x, (2, 2)), x)
    flat = resized(torch.full((2, 3, 4, 4), 200, dtype=torch.uint8), (9, 5))
    assert flat.dtype == torch.uint8
    assert torch.equal(flat, torch.full((2, 3, 9, 5), 200, dtype=torch.uint8))


def test_statistics_are_of_resized_and_padded_images() -> None:
    steps = build("standardize_channels", InputSpec("image", (1, 2, 2)), resize=1, pad=1)
    steps.fit(lambda: [pixels([0, 100], [50, 250]), torch.zeros(0, 1, 2, 2, dtype=torch.uint8)])
    y = steps(pixels([0, 100], [50, 250]))  # a 100 in the middle of eight zeros: mean 100/9, deviation 100 sqrt(8)/9
    expected = torch.full((1, 1, 3, 3), -1 / 8**0.5)
    expected[0, 0, 1, 1] = 8**0.5
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("step", [UnitRange((1, 4, 4)), SymmetricRange((1, 4, 4), pad=1), UnitRange((1, 4, 4), 2)])
def test_images_must_be_raw(step: Preprocessing) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(B, C, H, W\), got torch.float32"):
        step(torch.rand(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"got torch.uint8 of shape \(4, 4\)"):
        step(torch.zeros(4, 4, dtype=torch.uint8))


# ---- tables and series -----------------------------------------------------------------------------------------------


def test_standardize_by_hand() -> None:
    step = StandardizeFeatures((2,))
    step.fit(lambda: [torch.tensor([[1.0, 5.0], [3.0, 5.0]])])
    torch.testing.assert_close(step(torch.tensor([[5.0, 6.0]])), torch.tensor([[3.0, 1.0]]))


def test_standardize_offset_by_hand() -> None:
    # mean 2 and deviation 1; a constant 5, whose deviation is 0, is divided by the offset alone
    step = build("standardize_offset", InputSpec("table", (2,)))
    step.fit(lambda: [torch.tensor([[1.0, 5.0], [3.0, 5.0]])])
    torch.testing.assert_close(step(torch.tensor([[5.0, 5.0]])), torch.tensor([[3 / 1.0001, 0.0]]))
    torch.testing.assert_close(step(torch.tensor([[2.0, 5.5]])), torch.tensor([[0.0, 5000.0]]))


def test_standardize_offset_of_a_small_deviation_by_hand() -> None:
    step = build("standardize_offset", InputSpec("series", (2, 1)))
    step.fit(lambda: [torch.tensor([[[0.0], [0.0]], [[2e-4], [8e-4]]])])  # deviations 1e-4 and 4e-4
    torch.testing.assert_close(step(torch.tensor([[[3e-4], [9e-4]]])), torch.tensor([[[1.0], [1.0]]]))


def test_minmax_by_hand() -> None:
    step = StandardizeMinMax((2,))
    step.fit(lambda: [torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])])
    torch.testing.assert_close(step(torch.tensor([[7.0, 5.0]])), torch.tensor([[1.5, 0.0]]))


@pytest.mark.parametrize("spec", [TABLE, SERIES])
def test_agrees_with_scikit_learn(spec: InputSpec) -> None:
    train, test = samples(spec, 50), samples(spec, 20, seed=1)
    train[:, 0] = test[:, 0] = 0.1  # constant; 0.1 is not exact in binary
    for step, reference in (
        (StandardizeFeatures(spec.shape), StandardScaler()),
        (StandardizeMinMax(spec.shape), make_pipeline(StandardScaler(), MinMaxScaler())),
    ):
        step.fit(in_batches(train, 7))
        reference.fit(train.double().flatten(1).numpy())
        expected = reference.transform(test.double().flatten(1).numpy()).reshape(test.shape)
        np.testing.assert_allclose(step(test).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_constant_feature_is_not_blown_up() -> None:
    train = torch.full((100_000, 1), 0.1)
    for step in (StandardizeFeatures((1,)), StandardizeMinMax((1,))):
        step.fit(in_batches(train, 999))
        torch.testing.assert_close(step(torch.tensor([[0.1], [0.3]])), torch.tensor([[0.0], [0.2]]))


def test_large_offsets_keep_their_deviation() -> None:
    x = torch.tensor([[1e6], [1e6 + 1], [1e6 + 2], [1e6 + 3]]).repeat(1000, 1)
    step = StandardizeFeatures((1,))
    step.fit(in_batches(x, 10))
    assert step.scale.item() == pytest.approx(1.25**0.5, rel=1e-6)


def test_series_have_statistics_for_each_time() -> None:
    x = torch.tensor([[[0.0], [10.0]], [[2.0], [30.0]]])  # means 1 and 20, deviations 1 and 10
    step = StandardizeFeatures((2, 1))
    step.fit(lambda: [x])
    torch.testing.assert_close(step(x), torch.tensor([[[-1.0], [-1.0]], [[1.0], [1.0]]]))


def test_samples_of_another_shape_are_refused() -> None:
    step = StandardizeFeatures((1,))
    with pytest.raises(ValueError, match=r"shape \(1,\), got \(3,\)"):
        step.fit(lambda: [torch.zeros(2, 3)])
    step.fit(lambda: [torch.zeros(2, 1)])
    with pytest.raises(ValueError, match=r"shape \(1,\), got \(3,\)"):
        step(torch.zeros(2, 3))


def test_statistics_that_are_not_known_are_refused() -> None:
    with pytest.raises(ValueError, match="statistics must be one of training, cifar10, mnist, imagenet, got 'svhn'"):
        StandardizeChannels((3, 4, 4), statistics="svhn")  # type: ignore[arg-type]


# ---- all of them -----------------------------------------------------------------------------------------------------


@every
def test_fit_does_not_depend_on_batches_or_order(name: str, spec: InputSpec) -> None:
    x = samples(spec)
    whole, parts = build(name, spec), build(name, spec)
    whole.fit(lambda: [x])
    parts.fit(in_batches(x.flip(0), 4))
    torch.testing.assert_close(parts(x), whole(x), rtol=1e-5, atol=1e-5)


@every
def test_a_sample_does_not_depend_on_its_batch(name: str, spec: InputSpec) -> None:
    step = build(name, spec)
    step.fit(lambda: [samples(spec)])
    x = samples(spec, seed=1)
    assert torch.equal(torch.cat([step(x[i : i + 1]) for i in range(len(x))]), step(x))


@every
def test_float32_also_under_autocast(name: str, spec: InputSpec) -> None:
    step = build(name, spec)
    x = samples(spec)
    step.fit(lambda: [x])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = step(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, step(x))
    assert all(b.dtype in (torch.float32, torch.bool) for b in step.buffers())
    assert not list(step.parameters())


@every
def test_state_dict_holds_everything_fitted(name: str, spec: InputSpec) -> None:
    geometry = {"resize": 8, "pad": 2} if spec.kind == "image" and name != "identity" else {}
    step, other = build(name, spec, **geometry), build(name, spec, **geometry)
    x = samples(spec)
    step.fit(lambda: [x])
    other.load_state_dict(step.state_dict())
    assert bool(other.fitted)
    assert torch.equal(other(x), step(x))


@every
def test_output_shape_and_range(name: str, spec: InputSpec) -> None:
    geometry = {"resize": 9, "pad": 2} if spec.kind == "image" and name != "identity" else {}
    step = build(name, spec, **geometry)
    x = samples(spec)
    step.fit(lambda: [x])
    y = step(x)
    assert step.output_shape() == y.shape[1:]
    assert y.shape[1:] == ((3, 13, 13) if geometry else spec.shape)
    low, high = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "linear": (-np.inf, np.inf)}[step.output]
    assert low - 1e-6 <= y.min()
    assert y.max() <= high + 1e-6


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("standardize_channels", IMAGE),
        ("gcn_l1", IMAGE),
        ("standardize", TABLE),
        ("standardize_offset", TABLE),
        ("standardize_minmax", SERIES),
    ],
)
@pytest.mark.parametrize("pad", [0, 1])
def test_use_before_fit_is_refused(name: str, spec: InputSpec, pad: int) -> None:
    step = build(name, spec, **({"pad": pad} if spec.kind == "image" else {}))
    assert not step.fitted
    with pytest.raises(RuntimeError, match="is not fitted"):
        step(samples(spec))
    with pytest.raises(ValueError, match="at least one training sample"):
        step.fit(lambda: [samples(spec)[:0]])
    with pytest.raises(RuntimeError, match="is not fitted"):
        step(samples(spec))
    fitted = build(name, spec, **({"pad": pad} if spec.kind == "image" else {}))
    fitted.fit(lambda: [samples(spec)])
    fitted.load_state_dict(step.state_dict())  # the state of an unfitted one
    with pytest.raises(RuntimeError, match="is not fitted"):
        fitted(samples(spec))


class Centred(Preprocessing):
    """A preprocessing of one's own, which takes the mean of training data away."""

    output = "linear"

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.register_buffer("mean", torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.refuse()
        return x - self.mean

    def _fit(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        self.mean = torch.cat(list(batches())).mean(dim=0)


def test_one_that_writes_its_fit_needs_it() -> None:
    step, x = Centred((1,)), torch.tensor([[1.0], [3.0]])
    with pytest.raises(RuntimeError, match="Centred is not fitted"):
        step(x)
    step.fit(lambda: [x])
    assert step(x).tolist() == [[-1.0], [1.0]]


def test_a_fit_that_nobody_would_call_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Fits must write _fit\(batches\), which fit calls, and not fit"):
        type("Fits", (Preprocessing,), {"fit": lambda self, x: None})


def test_nothing_to_fit_is_fitted_from_the_start() -> None:
    assert bool(build("unit", IMAGE, resize=4).fitted)
    assert bool(build("identity", TABLE).fitted)


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("unit", TABLE, "UnitRange takes image input, .* for table input there are Identity, StandardizeFeatures, Sta"),
        ("gcn_l1", SERIES, "GlobalContrastL1 takes image input, .* for series input there are Identity, Standardize"),
        ("standardize", IMAGE, "StandardizeFeatures takes table and series input, .* there are GlobalContrastL1, Iden"),
    ],
)
def test_preprocessing_of_another_kind_of_input_is_refused(name: str, spec: InputSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared_for(spec, BY_NAME[name])


def test_without_a_preprocessing_the_kind_of_input_decides() -> None:
    assert isinstance(prepared_for(IMAGE, None), UnitRange)
    assert isinstance(prepared_for(TABLE, None), StandardizeFeatures)
    assert isinstance(prepared_for(SERIES, None), StandardizeFeatures)


def test_geometry_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="resize must be at least 1 pixel, got 0"):
        build("unit", IMAGE, resize=0)
    with pytest.raises(ValueError, match="pad must not be negative, got -2"):
        build("unit", IMAGE, pad=-2)
