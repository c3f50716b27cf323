from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from experiments.results.result import write_result
from invertune.shipped import find

Inside = Callable[..., tuple[int, str, str]]


def test_a_clean_model_becomes_a_small_file_with_a_card(
    inside: Inside, tiny_words: list[str], tmp_path: Path
) -> None:
    code, shown, _ = inside(*tiny_words, "seed=3")
    assert code == 0
    run = Path(shown.splitlines()[-1]).parent
    result = json.loads((run / "result.json").read_text())
    code, shown, _ = inside("ship", str(run), "--output", "minis")
    assert code == 0
    card = json.loads((tmp_path / "minis" / "tiny-seed3.json").read_text())
    assert shown.splitlines()[-1] == f"CA {card['ca']['value']:.4f} of {card['ca']['n']}"
    assert abs(card["ca"]["value"] - result["scores"]["clean"]["zero_shot"]["ca"]["value"]) < 0.1
    assert card["command"].startswith("invertune run model=tiny model.shipped=false attack=none")

    config = result["config"]
    found = find(config["model"], config["data"], 3, tmp_path / "minis")
    assert found is not None
    folder = run.parent / result["stages"]["pretrain"]
    manifest = json.loads((folder / "stage.json").read_text())
    assert found.card["code"] == manifest["key"]["code"]
    assert found.losses == pytest.approx(json.loads((folder / "losses.json").read_text()), abs=1e-4)

    from hydra.utils import instantiate
    from safetensors.torch import load_file

    model = instantiate(config["model"], _convert_="all").build(3)
    found.load(model)
    wanted = load_file(folder / "weights.safetensors")
    for name, value in model.clip.state_dict().items():
        assert torch.allclose(value, wanted[name], rtol=1e-3, atol=1e-3), name
    size = (tmp_path / "minis" / "tiny-seed3.safetensors").stat().st_size
    assert size < (folder / "weights.safetensors").stat().st_size / 4


def test_what_is_no_run_is_one_line(inside: Inside, tmp_path: Path) -> None:
    code, _, said = inside("ship", "nothing")
    assert (code, said) == (
        1,
        "error: nothing is no folder of a complete run: it has no result.json\n",
    )


def test_nothing_is_written_where_a_name_leads(
    inside: Inside, tiny_words: list[str], tmp_path: Path
) -> None:
    code, shown, _ = inside(*tiny_words)
    assert code == 0
    path = Path(shown.splitlines()[-1])
    result = json.loads(path.read_text())
    result["config"]["model"]["name"] = result["model"]["name"] = "../elsewhere"
    del result["sha256"]
    write_result(path.parent, result)  # a result of a stranger's, with a seal of its own
    code, _, said = inside("ship", str(path.parent), "--output", "minis/own")
    assert code == 1
    assert said.startswith("error: model.name is a plain folder name")
    assert not list(tmp_path.glob("**/elsewhere*"))
