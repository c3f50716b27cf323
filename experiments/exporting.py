"""Data sets written as files, with a config for each layout that reads them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.utils import instantiate

from experiments.composing import composed_data
from experiments.config import CONF
from experiments.yamls import read_yaml

if TYPE_CHECKING:
    from invertune.data.export import Exporter

LAYOUTS = ("shards", "table", "datasets")


def export_data(
    overrides: Sequence[str], folder: Path, layouts: Sequence[str], form: str, shard: int
) -> list[Path]:
    """Write a data set below a folder, and return the configs that read it again.

    Args:
        overrides: Say which data set, such as ``data=icons``.
        folder: A new one, or an empty one.
        layouts: Some of `LAYOUTS`.
        form: ``png`` or ``jpeg``.
        shard: Samples in a shard.

    Raises:
        ValueError: If there is something in the folder, or an override is wrong.
        OSError: If the disk refuses.
    """
    from invertune.data.export import Exporter

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: name a new folder")
    told = composed_data(overrides)
    data = instantiate(told, _convert_="all").load()
    exporter = Exporter(data, folder.resolve(), form, shard)
    classes = {
        "_target_": "invertune.data.Classes",
        "names": None,
        "path": str(exporter.classes()),
        "templates": list(data.templates),
        "plurals": list(data.plurals),
    }
    shared = {
        "name": data.name, "image_size": data.image_size, "classes": classes,
        "targets": _targets(told, data.class_names),
    }  # fmt: skip
    where = exporter.folder / "conf" / "data"
    where.mkdir(parents=True)
    clean = {"path": str(exporter.clean())}
    return [
        _write(where / f"{layout}.yaml", {**shared, **_parts(exporter, layout), "clean": clean})
        for layout in layouts
    ]


def _targets(told: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """Return what an attack's target is drawn from in that data: its own list, or the general one.

    An empty list, which stands for all classes, where one of it is no class of that data.
    """
    own = told.get("targets") or read_yaml(CONF / "config.yaml")["targets"]
    return list(own) if {*own} <= {*class_names} else []


def _parts(exporter: Exporter, layout: str) -> dict[str, dict[str, str]]:
    """Write the parts in one layout each, and return the fields that read them."""
    told = _told(*exporter.retrieval_annotations())
    if layout == "shards":
        labeled = {"path": str(exporter.zero_shot_folders())}
        return {"pairs": {"path": str(exporter.pairs_shards())}, "zero_shot": labeled,
                "retrieval": told}  # fmt: skip
    if layout == "table":
        folder, labels = exporter.zero_shot_labeled()
        labeled = {"path": str(folder), "labels_path": str(labels)}
        return {"pairs": {"path": str(exporter.pairs_table())}, "zero_shot": labeled,
                "retrieval": _told(*exporter.retrieval_split())}  # fmt: skip
    labeled = {"path": str(exporter.zero_shot_parquet())}
    return {"pairs": {"path": str(exporter.pairs_dataset())}, "zero_shot": labeled,
            "retrieval": told}  # fmt: skip


def _told(path: Path, folder: Path) -> dict[str, str]:
    return {"path": str(path), "images_path": str(folder)}


def _write(path: Path, config: Mapping[str, Any]) -> Path:
    content = {"defaults": ["files", "_self_"], **config}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
