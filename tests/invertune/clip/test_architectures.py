from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor, nn

from invertune.clip import architectures
from invertune.clip.checkpoints import read_checkpoint
from invertune.clip.models import CLIP

State = dict[str, Tensor]
Make = Callable[..., CLIP]
StateOf = Callable[..., State]
Same = Callable[[CLIP, CLIP], bool]


@pytest.mark.parametrize(
    "name", ["RN50", "RN101", "RN50x4", "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-g-14"]
)
def test_models_of_open_clip_are_known_by_their_shapes(name: str) -> None:
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        state = open_clip.CLIP(**config).state_dict()
    assert architectures.infer_architecture(Path("w"), state, None) == (config, name, ())


def test_what_is_no_clip_names_what_it_lacks(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    path = tmp_path / "w.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(
        ValueError, match=r"no CLIP .* 2 tensors, but no visual\.conv1\.weight, token"
    ):
        read_checkpoint(path)
    state = state_of(make_model("resnet"))
    del state["visual.attnpool.positional_embedding"], state["text_projection"]
    torch.save(state, path)
    with pytest.raises(
        ValueError, match=r"but no text_projection, visual\.attnpool\.positional_em"
    ):
        read_checkpoint(path)


def test_towers_that_do_not_split_into_heads_or_squares_are_said(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    path, state = tmp_path / "w.pt", state_of(make_model("vit"))
    torch.save({**state, "ln_final.weight": torch.ones(48)}, path)
    with pytest.raises(
        ValueError, match="the text tower, 48 wide, does not split into heads of 64"
    ):
        read_checkpoint(path)
    torch.save({**state, "visual.positional_embedding": torch.ones(4, 64)}, path)
    with pytest.raises(ValueError, match="has 4 rows; a square image has"):
        read_checkpoint(path)
    torch.save({**state, "token_embedding.weight": torch.ones(9, 64)}, path)
    with pytest.raises(ValueError, match="has 9 tokens; only CLIP's own tokenizer, of 49408"):
        read_checkpoint(path)
    torch.save({**state, "visual.conv1.weight": torch.ones(64, 3, 0, 0)}, path)
    with pytest.raises(ValueError, match=r"visual\.conv1\.weight is empty, of shape \[64, 3, 0, 0"):
        read_checkpoint(path)
