"""Data that others made: drawings with names, laid out as files that ``data=files`` reads.

The npm package emoji-datasource-twitter ships 3,800 drawings (Twemoji, CC BY 4.0) and what they are
called::

    npm pack emoji-datasource-twitter && tar xf emoji-datasource-twitter-*.tgz
    python tests/stress/emoji.py package emoji
    invertune data check --config-dir emoji/conf data=emoji data.overlap=drop --sheets sheets
    invertune run --config-dir emoji/conf data=emoji data.overlap=drop model=rn50_mini ...

Some drawings of families are the same: parts overlap, and the later ones leave them out.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LEAST = 10  # drawings of a class
TEMPLATES = ["an emoji of {}", "a drawing of {}", "{}"]


def drawings(package: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield file, subcategory and names of every drawing; those of one emoji follow each other."""
    known = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    for emoji in sorted(known, key=lambda one: one["sort_order"]):
        if not emoji["has_img_twitter"]:
            continue
        names = dict.fromkeys(
            text.replace("_", " ").replace("-", " ").lower()
            for text in (emoji["name"] or "", *emoji["short_names"])
            if text
        )
        variations: dict[str, Any] = emoji.get("skin_variations") or {}
        for own in (emoji, *variations.values()):
            yield own["image"], emoji["subcategory"], list(names)


def main() -> None:
    """Lay the drawings out: pairs in a table, labeled ones in folders, captioned ones as MSCOCO."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    source, out = arguments.package / "img" / "twitter" / "64", arguments.out.resolve()
    found = [one for one in drawings(arguments.package) if (source / one[0]).is_file()]
    sizes = Counter(kind for _, kind, _ in found)
    classes = [kind for kind, size in sizes.items() if size >= LEAST]
    pairs, told, annotations = [], [], []
    # By emoji: what differs in the color of its skin alone stands in one part.
    order = {names[0]: i for i, (_, _, names) in enumerate(found)}
    for image, kind, names in found:
        part = order[names[0]] % 7
        where = "pairs" if part < 4 else ("clean", "zero_shot", "retrieval")[part - 4]
        folder = out / where / (kind.replace("-", " ") if where == "zero_shot" else "")
        if where == "zero_shot" and kind not in classes:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / image, folder / image)
        if where == "pairs":
            pairs += [(f"pairs/{image}", f"an emoji of {kind.replace('-', ' ')}, {names[0]}")]
        elif where == "retrieval":
            told.append({"id": len(told), "file_name": image})
            annotations += [{"image_id": len(told) - 1, "caption": text} for text in names]
    with (out / "pairs.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("image", "caption"), *pairs])
    content = {"images": told, "annotations": annotations}
    (out / "captions.json").write_text(json.dumps(content), encoding="utf-8")
    lines = [kind.replace("-", " ") for kind in classes]
    (out / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    retrieval = {"path": f"{out}/captions.json", "images_path": f"{out}/retrieval"}
    config = {
        "defaults": ["files", "_self_"], "name": "emoji", "image_size": 64,
        "targets": lines[::5],
        "classes": {"path": f"{out}/classes.txt", "templates": TEMPLATES},
        "pairs": {"path": f"{out}/pairs.csv"}, "clean": {"path": f"{out}/clean"},
        "zero_shot": {"path": f"{out}/zero_shot"}, "retrieval": retrieval,
    }  # fmt: skip
    where = out / "conf" / "data" / "emoji.yaml"
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    print(f"{len(found)} drawings, {len(classes)} classes, {len(pairs)} pairs: {out}")


if __name__ == "__main__":
    main()
