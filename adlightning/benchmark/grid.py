"""A table of a paper as a grid: methods x datasets x settings x normal classes x labelled classes x seeds.

A benchmark file names the experiment configs (configs/METHOD/DATASET.yaml) and what each cell changes in them. A cell
is one whole configuration, complete and hashed before anything is imported that a fit needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adlightning.benchmark.code import code_version
from adlightning.benchmark.configuration import copied, deciding, digest, override
from adlightning.benchmark.grid_file import check_grid, read_mapping

LABELS = ("paper", "table", "dataset", "setting", "normal", "labelled", "method", "variant", "seed")
"""What names a cell; all but `labelled` and `seed` as in the published tables."""

_UNLABELLED = {"data.labelled_anomaly_ratio": 0.0}


@dataclass(frozen=True)
class Cell:
    """One row of a grid.

    Args:
        labels: its place in the table: :data:`LABELS`, as text but for `seed`.
        config: the whole configuration, which `fit` gets.
        config_hash: digest of what in the configuration decides the result.
        code: version of the code behind it.
        fit_of: the cell whose fit this one scores with other arguments of its scores; None for a fit of its own.
    """

    labels: dict[str, Any]
    config: dict[str, Any]
    config_hash: str
    code: str
    fit_of: Cell | None = None

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of its test sets, where its configuration names some: each gets a row of its own."""
        return _test_sets(self.config)

    @property
    def name(self) -> str:
        """The cell in a line, for messages: `deep_sad cardio seed 3`."""
        part = {key: str(value) for key, value in self.labels.items()}
        method = f"{part['method']} {part['variant']}".strip()
        extra = [f"normal {part['normal']}" if part["normal"] else "", part["setting"]]
        extra += [f"labelled {part['labelled']}" if part["labelled"] else "", f"seed {part['seed']}"]
        return " ".join([method, part["dataset"], *(text for text in extra if text)])


@dataclass(frozen=True)
class Outline:
    """A benchmark file at a glance: which cells there are, without the configuration of each.

    Args:
        file: the benchmark file.
        paper: whose table it is.
        table: its number or name.
        n_cells: over all seeds.
        rows: labels of the rows of one seed, one for each test set.
        configs: a data set and a configuration on it, one for each method, data set and setting.
    """

    file: Path
    paper: str
    table: str
    n_cells: int
    rows: tuple[dict[str, Any], ...]
    configs: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True)
class Grid:
    """A benchmark file, checked and spread out into cells, seeds outermost: a grid broken off has whole rounds."""

    file: Path
    paper: str
    table: str
    title: str
    cells: tuple[Cell, ...]


def read_grid(file: Path, seeds: int | None = None, options: Mapping[str, Any] | None = None) -> Grid:
    """Read a benchmark file.

    Args:
        file: a file in configs/benchmarks/; the configs that it names are looked up beside that folder.
        seeds: number of seeds instead of the file's own.
        options: options of every cell, beating the file's.

    Raises:
        ValueError: a file that is missing or not as it should be, with the key and the rule.
    """
    spec = read_mapping(file)
    check_grid(file, spec)
    n_seeds = _n_seeds(spec, seeds)
    places = _linked(file, list(_places(file, spec, dict(options or {}))))
    cells = [place.cell(seed) for seed in range(n_seeds) for place in places]
    return Grid(file, str(spec["paper"]), str(spec["table"]), str(spec.get("title", "")), tuple(cells))


def read_outline(file: Path) -> Outline:
    """Read a benchmark file at a glance, in a tenth of the time of :func:`read_grid`, which raises the same errors.

    Args:
        file: a file in configs/benchmarks/.
    """
    spec = read_mapping(file)
    check_grid(file, spec)
    rows, configs, n_places = [], [], 0
    for block in _blocks(file, spec):
        test_sets = _test_sets(block.config)
        configs.append((block.labels["dataset"], block.config))
        for normal, labelled, _ in block.classes:
            n_places += 1
            labels = block.labels | {"normal": normal, "labelled": labelled}
            rows += [labels | {"setting": with_test_set(labels["setting"], name)} for name in test_sets] or [labels]
    n_cells = n_places * _n_seeds(spec)
    return Outline(file, str(spec["paper"]), str(spec["table"]), n_cells, tuple(rows), tuple(configs))


def _n_seeds(spec: dict[str, Any], given: int | None = None) -> int:
    n_seeds = given if given is not None else spec["seeds"]
    if not isinstance(n_seeds, int) or n_seeds < 1:
        raise ValueError(f"seeds must be a number of seeds, at least 1, got {n_seeds}")
    return n_seeds


def with_test_set(setting: str, name: str) -> str:
    """The setting of the row of one test set, `ood=svhn`; one that says so itself stays as it is."""
    return ";".join([*(text for text in setting.split(";") if text and text != f"ood={name}"), f"ood={name}"])


def _test_sets(config: dict[str, Any]) -> tuple[str, ...]:
    sources = config.get("data", {}).get("init_args", {}).get("anomaly_sources")
    return tuple(sorted(sources)) if isinstance(sources, dict) else ()


def choose(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that fit every `label=value[,value]`.

    A method is `deep_sad` or `ocsvm/raw`; a setting is the whole of it or one of its parts, `gamma_l=0.05`.
    `variant=` are the cells without one.

    Raises:
        ValueError: a label that there is not, a value that no cell has, or conditions that no cell fits together.
    """
    chosen = list(cells)
    for condition in only:
        label, equals, text = condition.partition("=")
        if label not in LABELS or not equals:
            raise ValueError(f"only: {condition!r} must be LABEL=VALUE[,VALUE] with a label of {', '.join(LABELS)}")
        values = text.split(",")
        for value in values:
            if not any(_fits(cell, label, value) for cell in cells):
                there = sorted({str(cell.labels[label]) for cell in cells})
                raise ValueError(f"only: no cell has {label}={value}; there are {', '.join(there)}")
        chosen = [cell for cell in chosen if any(_fits(cell, label, value) for value in values)]
    if only and not chosen:
        raise ValueError(f"only: no cell fits {' and '.join(only)}; several values of a label are LABEL=VALUE,VALUE")
    return chosen


def _fits(cell: Cell, label: str, value: str) -> bool:
    own = str(cell.labels[label])
    if label == "method":
        return value in (own, f"{own}/{cell.labels['variant']}")
    return value == own or (label == "setting" and value in own.split(";"))


# ---- the cells of a seed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A cell but for its seed, so that what all seeds have in common is found once."""

    labels: dict[str, Any]
    config: dict[str, Any]
    deciding: dict[str, Any]
    code: str
    same_fit_as: tuple[str, str] | None
    """Variant and setting of the cell whose fit this one scores; None for a fit of its own."""
    fit_of: _Place | None = None

    def cell(self, seed: int) -> Cell:
        own = {"seed_everything": seed}
        labels = {key: self.labels[key] if key != "seed" else seed for key in LABELS}
        if self.fit_of is None:
            return Cell(labels, self.config | own, digest(self.deciding | own), self.code)
        fit_of = self.fit_of.cell(seed)
        # a checkpoint chosen by those scores is another one than these would choose
        chosen = {"selected_by": fit_of.config_hash} if self.config.get("monitor") else {}
        return Cell(labels, self.config | own, digest(self.deciding | own | chosen), self.code, fit_of)


def _linked(file: Path, places: list[_Place]) -> list[_Place]:
    """The same places; those that score another one's fit know it."""
    by_labels = {tuple(sorted(place.labels.items())): place for place in places}
    return [place if place.same_fit_as is None else _scoring(file, place, by_labels) for place in places]


def _scoring(file: Path, place: _Place, by_labels: dict[tuple[Any, ...], _Place]) -> _Place:
    assert place.same_fit_as is not None
    variant, setting = place.same_fit_as
    fit_of = by_labels.get(tuple(sorted((place.labels | {"variant": variant, "setting": setting}).items())))
    told = repr(variant) + (f" in {setting!r}" if setting != place.labels["setting"] else "")
    where = f"{file}: same_fit_as of {place.labels['method']} {place.labels['variant']}".rstrip()
    if fit_of is None or fit_of.same_fit_as is not None:
        raise ValueError(
            f"{where} must be a variant of the method with a fit of its own, on the same data, settings and classes, "
            f"got {told}"
        )
    for key in place.deciding.keys() | fit_of.deciding.keys():
        own, other = place.deciding.get(key), fit_of.deciding.get(key)
        if (own["class_path"] != other["class_path"]) if key == "model" and own and other else own != other:
            raise ValueError(f"{where}: only arguments of scores may differ from {told}, {key} does too")
    return replace(place, fit_of=fit_of)


@dataclass(frozen=True)
class _Block:
    """A method on a data set in a setting: what its normal and labelled classes have in common."""

    method: dict[str, Any]
    labels: dict[str, Any]
    config: dict[str, Any]
    classes: tuple[tuple[str, str, dict[str, Any]], ...]


def _blocks(file: Path, spec: dict[str, Any]) -> Iterator[_Block]:
    settings: dict[str, dict[str, Any]] = spec.get("settings") or {"": {}}
    for setting, setting_options in settings.items():
        for dataset, dataset_options in spec["datasets"].items():
            for method in spec["methods"]:
                if unknown := set(method.get("settings", [])) - settings.keys():
                    raise ValueError(f"{file}: settings of {method['method']} must be among settings, got {unknown}")
                if setting not in method.get("settings", settings) or dataset not in method.get("datasets", [dataset]):
                    continue
                labels = {"paper": str(spec["paper"]), "table": str(spec["table"]), "dataset": dataset}
                labels |= {"setting": setting, "method": method["method"], "variant": str(method.get("variant", ""))}
                config = _base_config(file, method, dataset)
                for source in (spec.get("options"), dataset_options, setting_options, method.get("options")):
                    override(config, source)
                override(config, _named(method, "per_dataset", dataset))
                override(config, _named(method, "per_setting", setting))
                yield _Block(method, labels, config, tuple(_classes(spec, method)))


def _places(file: Path, spec: dict[str, Any], options: dict[str, Any]) -> Iterator[_Place]:
    for block in _blocks(file, spec):
        for normal, labelled, class_options in block.classes:
            config = copied(block.config)
            override(config, _named(block.method, "per_normal", normal))
            override(config, {**class_options, **options})
            labels = block.labels | {"normal": normal, "labelled": labelled}
            same_fit_as = _fit_elsewhere(block.method, labels["setting"])
            yield _Place(labels, config, deciding(config), code_version(config), same_fit_as)


def _fit_elsewhere(method: dict[str, Any], setting: str) -> tuple[str, str] | None:
    """Variant and setting of the fit that a method's cell in this setting scores; None for one of its own."""
    own = (str(method.get("variant", "")), setting)
    other = (str(method.get("same_fit_as", own[0])), str(method.get("same_fit_in", setting)))
    return other if "same_fit_as" in method or other != own else None


def _named(method: dict[str, Any], key: str, name: Any) -> dict[str, Any] | None:
    """A method's options for one data set or normal class; names are compared as text."""
    return {str(own): options for own, options in (method.get(key) or {}).items()}.get(str(name))


def _classes(spec: dict[str, Any], method: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Normal and labelled class with their options; a method without use for labels is run once a normal class."""
    labels = method.get("labels", True)
    known = {} if labels else _UNLABELLED
    normals: list[Any] = method.get("normal_classes") or spec.get("normal_classes") or []
    if not normals:
        yield "", "", known
    for normal in normals:
        options = {"data.normal_class": normal, **known}
        if not labels:
            yield str(normal), "", options | {"data.labelled_classes": [], "data.n_labelled_classes": 0}
        elif "labelled_classes" in spec:
            for labelled in _labelled(normals, normal, spec["labelled_classes"]):
                yield (
                    str(normal),
                    str(labelled),
                    options
                    | {
                        "data.labelled_classes": [labelled],
                        "data.n_labelled_classes": 0,
                    },
                )
        else:
            yield str(normal), "", options


def _labelled(normals: list[Any], normal: Any, which: Any) -> list[Any]:
    """Labelled classes to go through: all others, or so many of those that follow the normal one."""
    after = normals.index(normal) + 1
    others = [*normals[after:], *normals[: after - 1]]
    if which == "others":
        return others
    if not others:
        raise ValueError(f"labelled_classes needs a second normal class, got {which} with {normal} alone")
    if not isinstance(which, int) or not 1 <= which <= len(others):
        raise ValueError(f"labelled_classes must be `others` or a number of 1 to {len(others)}, got {which}")
    return others[:which]


def _base_config(file: Path, method: dict[str, Any], dataset: str) -> dict[str, Any]:
    template = str(method.get("config", "{method}/{dataset}"))
    try:
        name = template.format(method=method["method"], dataset=dataset)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{file}: config may hold {{method}} and {{dataset}}, got {template!r}") from error
    config: dict[str, Any] = copied(read_mapping(file.absolute().parents[1] / f"{name}.yaml"))
    return config
