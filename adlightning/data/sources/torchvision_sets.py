"""Image sets that torchvision knows, as whole uint8 tensors."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import datasets

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.data.sources.base import ClassSource, Part, Samples
from adlightning.data.sources.npz import checked_indices, read_part
from adlightning.files.disk import user_path

CIFAR100_SUPERCLASSES: dict[str, tuple[str, ...]] = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""The 20 superclasses of CIFAR-100 and their classes (Krizhevsky, 2009), in official order."""

_COARSE = tuple(CIFAR100_SUPERCLASSES)
_FINE = tuple(sorted(name for names in CIFAR100_SUPERCLASSES.values() for name in names))  # the official order
_COARSE_OF_FINE = np.array([next(i for i, c in enumerate(_COARSE) if f in CIFAR100_SUPERCLASSES[c]) for f in _FINE])

_HINT = "Replace them, or delete them and set download=true"


class _TorchvisionSet(ClassSource):
    """What the sets share: where files are, what to say when they are not, and checks of what was read.

    Args:
        root: folder that holds the set's own folder, in torchvision's layout.
        download: get missing files from the set's official address.
    """

    shape: ClassVar[tuple[int, int, int]]

    def __init__(self, root: str = "data", download: bool = False) -> None:
        self.root = user_path(root)
        self.download = download

    @abstractmethod
    def _files(self, part: Part) -> list[Path]:
        """The files without which a part cannot be read."""

    @abstractmethod
    def _dataset(self, part: Part, download: bool = False) -> Any:
        """torchvision's own object, which reads, and checks what it can."""

    @abstractmethod
    def _arrays(self, dataset: Any) -> tuple[Tensor, NDArray[np.int64]]:
        """Images (N, C, H, W) and labels of torchvision's object."""

    def input_spec(self) -> InputSpec:
        """Images of the set's size."""
        return InputSpec("image", self.shape, self.name)

    def prepare(self) -> None:
        """Download the set when asked to and files are missing. Raises SourceError when that fails."""
        for part in ("train", "test") if self.download else ():
            if not all(path.is_file() for path in self._files(part)):
                try:
                    self._dataset(part, download=True)
                except Exception as error:  # networks fail in many ways
                    raise SourceError(f"{self.name} could not be downloaded to {self.root}: {error}") from error

    def load(self, part: Part) -> Samples:
        """One official part; names are `train/0`, `train/1`, ...

        Raises:
            SourceError: files are missing, truncated or altered; the message names the folder.
        """
        files = self._files(part)
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise SourceError(self._where(files[0].parent, missing))
        try:
            x, y = self._arrays(self._dataset(part))
        except Exception as error:  # torchvision raises whatever the parser of the format does
            # torchvision asserts without a message that a file is as long as its header says
            reason = "a file is truncated or of another format" if isinstance(error, AssertionError) else str(error)
            raise SourceError(
                f"{self.name}: the files in {files[0].parent} cannot be read: {reason}. {_HINT}"
            ) from error
        return self._samples(part, x, y, files[0].parent)

    def _samples(self, part: Part, x: Tensor, labels: NDArray[Any], origin: Path) -> Samples:
        if tuple(x.shape[1:]) != self.shape or x.dtype != torch.uint8:
            found = f"{x.dtype} of {tuple(x.shape[1:])}"
            raise SourceError(f"{self.name}: {origin} must hold uint8 images of {self.shape}, got {found}")
        if len(x) == 0 or len(x) != len(labels):
            raise SourceError(f"{self.name}: {origin} holds {len(x)} images and {len(labels)} labels")
        y = checked_indices(origin, labels, len(self.classes))
        return Samples(x, y, tuple(f"{part}/{i}" for i in range(len(x))))

    def _where(self, folder: Path, missing: list[str]) -> str:
        return (
            f"{self.name}: {folder} lacks {', '.join(missing)}; set download=true (root {self.root}), "
            f"or put the files there"
        )


class MNIST(_TorchvisionSet):
    """MNIST (LeCun et al., 1998), uint8 (N, 1, 28, 28), 60,000 and 10,000 images, classes `0` to `9`.

    Read from `root/MNIST/raw/*-ubyte`.

    Args:
        root: folder that holds the set's own folder.
        download: get missing files from the set's official address.
    """

    name = "MNIST"
    classes = tuple("0123456789")
    shape = (1, 28, 28)
    torchvision_class: ClassVar[type[Any]] = datasets.MNIST

    def _files(self, part: Part) -> list[Path]:
        # torchvision wants both parts, whichever it is asked for
        names = [Path(url).stem for url, _ in self.torchvision_class.resources]
        return [self.root / self.torchvision_class.__name__ / "raw" / name for name in names]

    def _dataset(self, part: Part, download: bool = False) -> Any:
        return self.torchvision_class(self.root, train=part == "train", download=download)

    def _arrays(self, dataset: Any) -> tuple[Tensor, NDArray[np.int64]]:
        return dataset.data[:, None], dataset.targets.numpy()


class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao et al., 2017), uint8 (N, 1, 28, 28), 60,000 and 10,000 images of 10 kinds of clothing.

    Read from `root/FashionMNIST/raw/*-ubyte`.

    Args:
        root: folder that holds the set's own folder.
        download: get missing files from the set's official address.
    """

    name = "FashionMNIST"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    torchvision_class = datasets.FashionMNIST


class CIFAR10(_TorchvisionSet):
    """CIFAR-10 (Krizhevsky, 2009), uint8 (N, 3, 32, 32), 50,000 and 10,000 images of 10 classes.

    Read from `root/cifar-10-batches-py`, whose pickles are opened only if their checksums are the official ones.
    Where that folder is not, from `root/cifar10.npz` with `train_images`, `train_labels`, `test_images`, `test_labels`.

    Args:
        root: folder that holds the set's own folder or .npz.
        download: get missing files from the set's official address.
    """

    name = "CIFAR10"
    classes: tuple[str, ...] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    shape = (3, 32, 32)
    torchvision_class: ClassVar[type[Any]] = datasets.CIFAR10
    npz_name: ClassVar[str] = "cifar10.npz"

    def prepare(self) -> None:
        """Download the set when asked to and there is neither folder nor .npz."""
        if not self._takes_npz():
            super().prepare()

    def load(self, part: Part) -> Samples:
        """One official part; names are `train/0`, `train/1`, ...

        Raises:
            SourceError: files are missing, truncated or altered; the message names the folder.
        """
        if not self._takes_npz():
            return super().load(part)
        path = self.root / self.npz_name
        x, labels = read_part(path, part)
        return self._samples(part, x, labels, path)

    def _takes_npz(self) -> bool:
        folder = self.root / self.torchvision_class.base_folder
        return not folder.exists() and (self.root / self.npz_name).is_file()

    def _files(self, part: Part) -> list[Path]:
        kind = self.torchvision_class
        names = [name for name, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]
        return [self.root / kind.base_folder / name for name in names]

    def _dataset(self, part: Part, download: bool = False) -> Any:
        # torchvision compares the MD5 sum of every batch before it unpickles one
        return self.torchvision_class(self.root, train=part == "train", download=download)

    def _arrays(self, dataset: Any) -> tuple[Tensor, NDArray[np.int64]]:
        images = np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2))
        return torch.from_numpy(images), np.asarray(dataset.targets, dtype=np.int64)

    def _where(self, folder: Path, missing: list[str]) -> str:
        return f"{super()._where(folder, missing)}, or put {self.npz_name} into {self.root} (no {folder} then)"


class CIFAR100(CIFAR10):
    """CIFAR-100 (Krizhevsky, 2009), uint8 (N, 3, 32, 32), 50,000 and 10,000 images of 100 classes or 20 superclasses.

    Read from `root/cifar-100-python` or, where that is not, from `root/cifar100.npz`, both with the 100 fine labels;
    see :class:`CIFAR10`.

    Args:
        root: folder that holds the set's own folder or .npz.
        download: get missing files from the set's official address.
        coarse: the 20 superclasses in place of the 100 classes.
    """

    name = "CIFAR100"
    torchvision_class = datasets.CIFAR100
    npz_name = "cifar100.npz"
    classes = _FINE

    def __init__(self, root: str = "data", download: bool = False, coarse: bool = False) -> None:
        super().__init__(root, download)
        self.coarse = coarse
        if coarse:
            self.name, self.classes = "CIFAR100 (coarse)", _COARSE

    def _samples(self, part: Part, x: Tensor, labels: NDArray[Any], origin: Path) -> Samples:
        if self.coarse:
            # torchvision does not give the coarse labels; each follows from the fine one
            labels = _COARSE_OF_FINE[checked_indices(origin, labels, len(_FINE))]
        return super()._samples(part, x, labels, origin)


class SVHN(_TorchvisionSet):
    """Street View House Numbers, cropped (Netzer et al., 2011), uint8 (N, 3, 32, 32), 73,257 and 26,032 images.

    Read from `root/train_32x32.mat` and `root/test_32x32.mat`, whose checksums must be the official ones; classes `0`
    to `9`.

    Args:
        root: folder that holds the files.
        download: get missing files from the set's official address.
    """

    name = "SVHN"
    classes = tuple("0123456789")
    shape = (3, 32, 32)

    def _files(self, part: Part) -> list[Path]:
        return [self.root / datasets.SVHN.split_list[part][1]]

    def _dataset(self, part: Part, download: bool = False) -> Any:
        return datasets.SVHN(self.root, split=part, download=download)

    def _arrays(self, dataset: Any) -> tuple[Tensor, NDArray[np.int64]]:
        return torch.from_numpy(np.ascontiguousarray(dataset.data)), dataset.labels
