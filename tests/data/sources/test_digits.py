from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from adlightning.data.sources import Digits


def test_parts_are_two_thirds_and_one_third_of_every_class() -> None:
    train, test = Digits().load("train"), Digits().load("test")
    of_class = np.bincount(load_digits().target)
    np.testing.assert_array_equal(np.bincount(test.y), of_class // 3)
    np.testing.assert_array_equal(np.bincount(train.y), of_class - of_class // 3)


def test_parts_are_disjoint_and_together_the_whole_set() -> None:
    names = [*Digits().load("train").names, *Digits().load("test").names]
    assert set(names) == {f"digits/{i}" for i in range(1797)}
    assert len(names) == 1797


def test_images_are_the_bundled_ones_rescaled_to_bytes() -> None:
    bunch = load_digits()
    samples = Digits().load("test")
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.dtype == torch.uint8
    row = int(samples.names[7].removeprefix("digits/"))
    # 16 is the brightest of the bundled values, 8 half of it: 127.5 rounds to even
    by_value = {0: 0, 4: 64, 8: 128, 12: 191, 16: 255}
    for before, after in zip(bunch.images[row].ravel(), samples.x[7].ravel().tolist(), strict=True):
        assert by_value.get(int(before), after) == after
    assert samples.x.max() == 255
    assert samples.y[7] == bunch.target[row]


def test_the_description_is_that_of_the_samples() -> None:
    source = Digits()
    samples = source.load("train")
    assert source.input_spec().kind == "image"
    assert source.input_spec().shape == tuple(samples.x[0].shape) == (1, 8, 8)
    assert source.classes == tuple("0123456789")
