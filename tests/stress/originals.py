"""The small files that `fuzz_files` changes: checkpoints of every format, a bundle, a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ["run", "--config-dir", str(ROOT / "tests" / "experiments" / "conf"), "data=tiny",
        "model=tiny", "attack=tiny", "defense=tiny", "tracking=disabled", "threads=1"]  # fmt: skip
SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def make_originals(folder: Path) -> None:
    """Write the files that are then changed."""
    subprocess.run(
        [sys.executable, "-m", "experiments.cli", *TINY, f"runs_dir={folder / 'runs'}"],
        check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT), "INVERTUNE_ALLOCATOR": "0"},
    )  # fmt: skip
    (run,) = (folder / "runs").glob("*/result.json")
    from experiments.bundles.export import write_bundle

    write_bundle(run.parent, folder / "bundle")
    _make_checkpoints(folder / "checkpoint")


def _make_checkpoints(folder: Path) -> None:
    import numpy as np
    import safetensors.torch
    import torch

    from invertune.clip.spec import ModelSpec
    from invertune.clip.weights import save_weights

    folder.mkdir()
    model = ModelSpec("small", architecture=SMALL).build(0)
    state = {name: value.contiguous() for name, value in model.clip.state_dict().items()}
    state = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    wrapped = {"epoch": 3, "name": "run", "optimizer": {"lr": np.float64(0.1)}}
    wrapped["state_dict"] = {f"module.{name}": value for name, value in state.items()}
    torch.save(wrapped, folder / "new.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_weights(model, folder / "own.safetensors")
    root = torch.nn.Module()
    for name, value in state.items():
        module = root
        *places, last = name.split(".")
        for place in places:
            if place not in dict(module.named_children()):
                module.add_module(place, torch.nn.Module())
            module = module.get_submodule(place)
        module.register_buffer(last, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(root), folder / "script.pt")
    hub = folder / "hub"
    hub.mkdir()
    safetensors.torch.save_file(state, hub / "model.safetensors")
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (hub / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": half}))
    (hub / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (hub / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3}))
