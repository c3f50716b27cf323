"""``invertune ship``: the clean model of a run as a small file that comes with the package."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.bundles.rebuild import build, build_model
from experiments.files import replacing
from experiments.names import plain_name
from experiments.results.left import read_losses
from experiments.results.result import FILE, read_result
from experiments.results.runs import Run
from experiments.stages.manifest import read_manifest
from experiments.terminal import say

if TYPE_CHECKING:
    from invertune.clip.models import CLIP
    from invertune.data.bundle import DataBundle


def ship(run: Path, output: Path | None = None) -> Path:
    """Write the file and its card, and return the path of the card.

    Args:
        run: Folder of a run whose clean model was pre-trained here.
        output: Folder to write to; where pre-training looks for such files if None.

    Raises:
        ValueError: If the run has no result, or pre-trained no model.
    """
    from invertune import shipped

    try:
        result = read_result(run / FILE)
    except OSError as error:
        raise ValueError(f"{run} is no folder of a complete run: it has no {FILE}") from error
    if "pretrain" not in result.get("stages", {}):
        raise ValueError(f"{run} has not pre-trained its model")
    folder = Run(run.resolve(), result).stage("pretrain")
    config, seed = result["config"], result["seed"]
    model = build_model(config["model"], None, folder / "weights.safetensors", seed)
    data = build(config["data"], "data").load()
    output = output or shipped.FOLDER
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{plain_name(model.name, 'model.name')}-seed{seed}.safetensors"
    with replacing(path) as partial:
        digest = shipped.pack(model, model.tokenize(data.pairs.captions), partial)
    manifest, losses = read_manifest(folder), read_losses(folder / "losses.json")
    card = {
        "version": shipped.VERSION,
        "model": shipped.without_switch(config["model"]),
        "data": config["data"],
        "seed": seed,
        "command": f"invertune run model={model.name} model.shipped=false attack=none defense=none "
        f"seed={seed}, then invertune ship RUN",
        "sha256": digest,
        "code": manifest["key"].get("code") or {},  # a file of other code than this is not taken
        "losses": [round(loss, 4) for loss in losses],
        "made_on": _machine(),
        "versions": result["versions"],
    }
    fresh = build(config["model"], "model").build(seed)
    shipped.Shipped(path, card).load(fresh)
    card["ca"] = _accuracy(fresh, data)
    place = path.with_suffix(".json")
    with replacing(place) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return place


def _accuracy(model: CLIP, data: DataBundle) -> Any:
    """Return the clean accuracy on the test images, of the weights as they are in the file."""
    from evaluation.zero_shot import evaluate_zero_shot

    found = evaluate_zero_shot(model, data.zero_shot, data.prompts, data.templates, None, None)
    return found.rates(None)["ca"]


def _machine() -> dict[str, str]:
    import torch

    from invertune.clip.encode import precision

    kind = str(precision(torch.device("cpu"))).removeprefix("torch.")
    return {"processor": platform.machine(), "precision": kind}


def main(argv: Sequence[str]) -> int:
    """Write the file and print its card's path and the measured accuracy."""
    parser = argparse.ArgumentParser(
        "invertune ship",
        description="Pack the clean model of a run into a small file with a card, measure its "
        "clean accuracy, and put both where pre-training looks for them.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, attack=none")
    parser.add_argument("--output", type=Path, help="folder to write to; the package's by default")
    arguments = parser.parse_args(list(argv))
    place = ship(arguments.run, arguments.output)
    share = json.loads(place.read_text(encoding="utf-8"))["ca"]
    say(f"{place}\nCA {share['value']:.4f} of {share['n']}")
    return 0
