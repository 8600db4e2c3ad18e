from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from real_data import real_data
from refusals import Touch
from torchvision import datasets

from adlightning.data.sources import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST, SourceError
from adlightning.data.sources.base import Part, Samples

# from the labels that lie in the pickles of CIFAR-100, independent of the table by names
COARSE_OF_FINE = [
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
    *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
    *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
    *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
]


def write_idx(root: Path, name: str, n: int = 4) -> np.ndarray[Any, Any]:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        header = b"".join(number.to_bytes(4, "big") for number in (0x803, n, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"".join(number.to_bytes(4, "big") for number in (0x801, n))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes(range(n)))
    return images


def tensor(samples: Samples) -> torch.Tensor:
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.dtype == torch.uint8
    assert samples.x.is_contiguous()
    return samples.x


# ---- MNIST and Fashion-MNIST ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_idx_files_are_read_whole(tmp_path: Path, kind: type[MNIST]) -> None:
    images = write_idx(tmp_path, kind.__name__)
    source = kind(root=str(tmp_path))
    samples = source.load("test")
    np.testing.assert_array_equal(tensor(samples).numpy(), images[:, None])
    assert samples.y.tolist() == [0, 1, 2, 3]
    assert samples.names == ("test/0", "test/1", "test/2", "test/3")
    assert source.input_spec().shape == (1, 28, 28)
    assert len(source.classes) == 10


def test_missing_files_are_named_with_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        MNIST(root=str(tmp_path)).load("train")
    for word in (str(tmp_path / "MNIST" / "raw"), "train-images-idx3-ubyte", "download=true", "put the files there"):
        assert word in str(caught.value)


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("keep", [0, 6, -1])
def test_truncated_files_are_refused(tmp_path: Path, file: str, keep: int) -> None:
    write_idx(tmp_path, "MNIST")
    path = tmp_path / "MNIST" / "raw" / file
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"MNIST: the files in .*raw cannot be read: \S+"):
        MNIST(root=str(tmp_path)).load("train")


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, "MNIST", n=11)
    with pytest.raises(SourceError, match=r"labels must lie in 0\.\.9, got 10"):
        MNIST(root=str(tmp_path)).load("train")


def test_real_mnist_has_its_class_counts() -> None:
    samples = MNIST(root=str(real_data("MNIST").parent)).load("test")
    assert tensor(samples).shape == (10000, 1, 28, 28)
    assert np.bincount(samples.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ---- CIFAR-10 and CIFAR-100 -----------------------------------------------------------------------------------------


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray[Any, Any]:
    """A set of 100 images in the official format, with checksums that torchvision takes for the official ones."""
    folder = root / "cifar-100-python"
    folder.mkdir()
    data = np.random.default_rng(0).integers(0, 256, (100, 3072), dtype=np.uint8)
    for name in ("train", "test"):
        entry = {"data": data, "fine_labels": list(range(100)), "coarse_labels": COARSE_OF_FINE}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", md5(folder / "test")]])
    meta = {"filename": "meta", "key": "fine_label_names", "md5": md5(folder / "meta")}
    monkeypatch.setattr(datasets.CIFAR100, "meta", meta)
    return data


def test_cifar_batches_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_cifar100(tmp_path, monkeypatch)
    samples = CIFAR100(root=str(tmp_path)).load("train")
    np.testing.assert_array_equal(tensor(samples).numpy(), data.reshape(100, 3, 32, 32))
    assert samples.y.tolist() == list(range(100))


def test_coarse_labels_are_those_of_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar100(tmp_path, monkeypatch)
    source = CIFAR100(root=str(tmp_path), coarse=True)
    assert source.load("train").y.tolist() == COARSE_OF_FINE
    assert len(source.classes) == 20
    assert source.classes[0] == "aquatic_mammals"
    assert source.classes[19] == "vehicles_2"


def test_fine_classes_have_their_official_names() -> None:
    classes = CIFAR100().classes
    assert len(set(classes)) == 100
    for index, name in {0: "apple", 13: "bus", 47: "maple_tree", 60: "plain", 83: "sweet_pepper", 99: "worm"}.items():
        assert classes[index] == name


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_replaced_batch_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    entry = {"data": np.zeros((1, 3072), np.uint8), "labels": [0], "label_names": ["airplane"]}
    for file in ("data_batch_1", "test_batch", "batches.meta"):
        (folder / file).write_bytes(pickle.dumps(entry))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", md5(folder / "data_batch_1")]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", md5(folder / "test_batch")]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    source = CIFAR10(root=str(tmp_path))
    assert len(source.load("train").x) == 1  # the set is in order before

    mark = tmp_path / "executed"
    (folder / name).write_bytes(pickle.dumps(Touch(mark)))
    parts: list[Part] = ["train", "test"]
    for part in parts:
        with pytest.raises(SourceError, match=r"CIFAR10: the files in .*cifar-10-batches-py cannot be read"):
            source.load(part)
    assert not mark.exists()
    pickle.loads((folder / name).read_bytes())  # our own bytes, written above, after our reader has refused them:
    assert mark.exists()  # the file was indeed hostile, so the test can fail


def write_npz(root: Path, name: str, labels: list[int]) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(0).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    np.savez(root / name, train_images=x, train_labels=labels, test_images=x, test_labels=labels)
    return x


def test_cifar10_is_read_from_an_npz(tmp_path: Path) -> None:
    x = write_npz(tmp_path, "cifar10.npz", [9, 3, 3])
    samples = CIFAR10(root=str(tmp_path)).load("train")
    np.testing.assert_array_equal(tensor(samples).numpy(), x.transpose(0, 3, 1, 2))
    assert samples.y.tolist() == [9, 3, 3]  # labels are the official indices, not those of the labels found


def test_coarse_labels_of_an_npz(tmp_path: Path) -> None:
    write_npz(tmp_path, "cifar100.npz", [99, 0, 47])
    assert CIFAR100(root=str(tmp_path), coarse=True).load("test").y.tolist() == [13, 4, 17]


def test_torchvisions_folder_goes_before_the_npz(tmp_path: Path) -> None:
    write_npz(tmp_path, "cifar10.npz", [9, 3, 3])
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(SourceError, match="cifar-10-batches-py lacks data_batch_1"):
        CIFAR10(root=str(tmp_path)).load("train")


@pytest.mark.parametrize("labels", [[10, 0], [-1, 0]])
def test_an_npz_of_other_labels_is_refused(tmp_path: Path, labels: list[int]) -> None:
    write_npz(tmp_path, "cifar10.npz", labels)
    with pytest.raises(SourceError, match=rf"labels must lie in 0\.\.9, got {labels[0]}"):
        CIFAR10(root=str(tmp_path)).load("train")


def test_an_npz_of_other_sizes_is_refused(tmp_path: Path) -> None:
    x = np.zeros((2, 28, 28), np.uint8)
    np.savez(tmp_path / "cifar10.npz", train_images=x, train_labels=[0, 1])
    with pytest.raises(SourceError, match=r"must hold uint8 images of \(3, 32, 32\), got .*\(1, 28, 28\)"):
        CIFAR10(root=str(tmp_path)).load("train")


def test_absent_cifar_names_folder_npz_and_download(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        CIFAR10(root=str(tmp_path)).load("train")
    for word in ("cifar-10-batches-py", "download=true", "cifar10.npz", str(tmp_path)):
        assert word in str(caught.value)


# ---- SVHN -----------------------------------------------------------------------------------------------------------


def test_svhn_counts_ten_as_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    file = tmp_path / "test_32x32.mat"
    scipy.io.savemat(file, {"X": x, "y": np.array([[10], [1], [9], [10]])})
    monkeypatch.setattr(datasets.SVHN, "split_list", {"test": ["", "test_32x32.mat", md5(file)]})
    samples = SVHN(root=str(tmp_path)).load("test")
    assert samples.y.tolist() == [0, 1, 9, 0]
    assert tensor(samples).shape == (4, 3, 32, 32)
    assert tensor(samples)[2, 1, 5, 7] == x[5, 7, 1, 2]


def test_altered_svhn_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((32, 32, 3, 1), np.uint8), "y": [[1]]})
    with pytest.raises(SourceError, match=r"SVHN: the files in .* cannot be read"):
        SVHN(root=str(tmp_path)).load("test")


# ---- download -------------------------------------------------------------------------------------------------------


def test_nothing_is_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: pytest.fail("downloads"))
    MNIST(root=str(tmp_path)).prepare()
    write_idx(tmp_path, "MNIST")
    MNIST(root=str(tmp_path), download=True).prepare()  # all is there


def test_missing_files_are_downloaded_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: write_idx(tmp_path, "MNIST"))
    source = MNIST(root=str(tmp_path), download=True)
    source.prepare()
    assert len(source.load("train").x) == 4


def test_a_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.MNIST, "download", fail)
    with pytest.raises(SourceError, match=r"MNIST could not be downloaded to .*: no route to host"):
        MNIST(root=str(tmp_path), download=True).prepare()
