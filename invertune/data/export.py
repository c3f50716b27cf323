"""A data set written as files, in every layout that `invertune.data.Part` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from webdataset.writer import ShardWriter

from invertune.data.bundle import DataBundle
from invertune.data.images import Images
from invertune.fields import check_choices, check_counts
from invertune.progress import progress

FORMATS = {"png": {"compress_level": 1}, "jpeg": {"quality": 95, "subsampling": 0}}
_SUFFIXES = {"png": "png", "jpeg": "jpg"}
_BATCH = 256
SPLIT = "test"


@dataclass(frozen=True)
class Exporter:
    """Writes the parts of a data set below a folder, each in a layout of its own.

    Attributes:
        data: What is written.
        folder: Where; nothing may be there.
        format: ``png``, which changes no pixel, or ``jpeg``.
        shard: Samples in a shard.
    """

    data: DataBundle
    folder: Path
    format: str = "png"
    shard: int = 10_000

    def __post_init__(self) -> None:
        check_choices(self, format=tuple(FORMATS))
        check_counts(self, "shard")

    def classes(self) -> Path:
        """Write the class names with their prompts, a line each."""
        path = self._at("classes.tsv")
        both = zip(self.data.class_names, self.data.prompts, strict=True)
        lines = [f"{name}\t{prompt}\n" for name, prompt in both]
        path.write_text("".join(lines), encoding="utf-8")
        return path

    def pairs_shards(self) -> Path:
        """Write the pairs as WebDataset shards, ``pairs-00000.tar`` and so on."""
        folder, pairs = self._at("pairs_shards/"), self.data.pairs
        pattern = str(folder / "pairs-%05d.tar")
        with ShardWriter(pattern, maxcount=self.shard, verbose=0) as writer:
            for i, encoded in self._encoded(pairs.images, "pairs as shards"):
                writer.write(
                    {"__key__": f"{i:09d}", self._suffix: encoded, "txt": pairs.captions[i]}
                )
        return folder

    def pairs_table(self) -> Path:
        """Write the pairs as pictures and ``pairs.csv`` with their paths and captions."""
        path = self._at("pairs_table/pairs.csv")
        names = self._pictures(self.data.pairs.images, path.parent, "images", "pairs as a table")
        return _write_table(path, names, self.data.pairs.captions)

    def pairs_dataset(self) -> Path:
        """Write the pairs as a folder of the library ``datasets``."""
        captions = self.data.pairs.captions
        found = self._dataset(self.data.pairs.images, {"caption": captions}, "pairs as a dataset")
        folder = self._at("pairs_dataset/")
        found.save_to_disk(str(folder))
        return folder

    def clean(self) -> Path:
        """Write the clean images as a folder of pictures, with ``clean.csv`` if there are captions.

        Returns:
            That table, or the folder.
        """
        folder, told = self._at("clean/"), self.data.clean_captions
        names = self._pictures(self.data.labeled_clean.images, folder, "", "clean as a folder")
        if told is None:
            return folder
        return _write_table(folder / "clean.csv", names, told)

    def zero_shot_folders(self) -> Path:
        """Write the labeled images in a folder for each class."""
        folder, part = self._at("zero_shot/"), self.data.zero_shot
        names = [self.data.class_names[label] for label in part.labels.tolist()]
        for i, encoded in self._encoded(part.images, "zero_shot as folders"):
            own = folder / names[i]
            own.mkdir(exist_ok=True)
            (own / f"{i:09d}.{self._suffix}").write_bytes(encoded)
        return folder

    def zero_shot_labeled(self) -> tuple[Path, Path]:
        """Write the labeled images as one folder, and a file with a label for each of them."""
        folder, part = self._at("zero_shot_flat/"), self.data.zero_shot
        names = self._pictures(part.images, folder, "", "zero_shot as a folder")
        labels = self._at("zero_shot_labels.txt")
        both = zip(names, part.labels.tolist(), strict=True)
        labels.write_text("".join(f"{name} {label}\n" for name, label in both), encoding="utf-8")
        return folder, labels

    def zero_shot_parquet(self) -> Path:
        """Write the labeled images as a parquet file of the library ``datasets``."""
        part, path = self.data.zero_shot, self._at("zero_shot.parquet")
        columns = {"label": part.labels.tolist()}
        self._dataset(part.images, columns, "zero_shot as parquet").to_parquet(str(path))
        return path

    def retrieval_annotations(self) -> tuple[Path, Path]:
        """Write the captioned images as MSCOCO's own annotations have them."""
        names, folder = self._captioned()
        told = self.data.retrieval.captions
        content = {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [
                {"id": 10 * i + j, "image_id": i, "caption": text}
                for i, own in enumerate(told) for j, text in enumerate(own)
            ],
        }  # fmt: skip
        return _write_json(self._at("captions.json"), content), folder

    def retrieval_split(self) -> tuple[Path, Path]:
        """Write the captioned images as Karpathy's splits of MSCOCO have them."""
        names, folder = self._captioned()
        told = self.data.retrieval.captions
        content = {
            "images": [
                {"filename": name, "split": SPLIT, "sentences": [{"raw": text} for text in own]}
                for name, own in zip(names, told, strict=True)
            ],
            "dataset": self.data.name,
        }
        return _write_json(self._at("dataset_split.json"), content), folder

    def _captioned(self) -> tuple[list[str], Path]:
        folder = self.folder / "retrieval"
        if folder.is_dir():  # both forms are of the same pictures
            return sorted(one.name for one in folder.iterdir()), folder
        folder = self._at("retrieval/")
        images = self.data.retrieval.images
        return self._pictures(images, folder, "", "retrieval as a folder"), folder

    @property
    def _suffix(self) -> str:
        return _SUFFIXES[self.format]

    def _at(self, name: str) -> Path:
        """Return a new path below the folder; a name that ends in a slash is a folder's."""
        path = self.folder / name
        folder = path if name.endswith("/") else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        return path

    def _pictures(self, images: Images, folder: Path, below: str, what: str) -> list[str]:
        """Write pictures, and return their paths relative to ``folder``."""
        (folder / below).mkdir(parents=True, exist_ok=True)
        names = []
        for i, encoded in self._encoded(images, what):
            name = f"{i:09d}.{self._suffix}"
            (folder / below / name).write_bytes(encoded)
            names.append(f"{below}/{name}" if below else name)
        return names

    def _encoded(self, images: Images, what: str) -> Iterator[tuple[int, bytes]]:
        batches = progress(images.batches(_BATCH), what, total=-(-len(images) // _BATCH))
        for number, batch in enumerate(batches):
            for i, picture in enumerate(batch):
                yield number * _BATCH + i, self._encode(picture)

    def _encode(self, picture: Tensor) -> bytes:
        pixels, stream = picture.permute(1, 2, 0).contiguous().numpy(), io.BytesIO()
        Image.fromarray(pixels).save(stream, format=self.format.upper(), **FORMATS[self.format])
        return stream.getvalue()

    def _dataset(self, images: Images, columns: Mapping[str, Sequence[Any]], what: str) -> Any:
        import datasets

        kinds: dict[str, Any] = {"label": datasets.Value("int64")}
        told = {name: kinds.get(name, datasets.Value("string")) for name in columns}
        features = datasets.Features({"image": datasets.Image(), **told})

        def rows() -> Iterator[dict[str, Any]]:
            for i, encoded in self._encoded(images, what):
                own = {name: values[i] for name, values in columns.items()}
                yield {"image": {"bytes": encoded, "path": None}, **own}

        return _in_memory(rows, features)


def _in_memory(rows: Callable[[], Iterator[dict[str, Any]]], features: Any) -> Any:
    import datasets

    table = list(rows())
    columns = {name: [row[name] for row in table] for name in features}
    return datasets.Dataset.from_dict(columns, features=features)


def _write_table(path: Path, names: Sequence[str], captions: Sequence[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["filepath", "title"])
        writer.writerows(zip(names, captions, strict=True))
    return path


def _write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
