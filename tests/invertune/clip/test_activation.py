from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from invertune.clip.activation import Activation, decide, of_run, other_activation
from invertune.clip.models import CLIP


@pytest.mark.parametrize(
    ("run", "quick_gelu"),
    [
        ("2024_05_01-model_ViT-B-32-quickgelu-lr_0.0005-b_256-j_4-p_amp", True),
        ("2024_05_01-model_ViT-B-32-lr_0.0005-b_256-j_4-p_amp_bf16", False),
        ("2023_01_01-model_RN50-lr_0.001-b_128-j_8-p_amp", False),
        ("cc3m_ViT-B/32_poisoned", True),
        ("my-quickgelu-run", True),
        ("my_Quick_GELU_run", True),
        ("not-quickgelu", False),
        ("vit_no_quickgelu_3", False),
        ("without QuickGELU", False),
        ("casino-quickgelu", True),
        ("badclip_RN50_cc3m", None),
        ("RN50", None),
        ("2024_05_01-model_Mine-lr_0.0005-b_256-j_4-p_amp", None),
        ("exp", None),
        ("a/b", None),
        ("", None),
    ],
)
def test_a_runs_name_may_name_the_model(run: str, quick_gelu: bool | None) -> None:
    assert of_run(run) is quick_gelu


def test_the_best_evidence_decides() -> None:
    run = "model_ViT-B-32-quickgelu-lr_1"
    assert decide(False, True, run, openai=True) == Activation(False, "as asked for")
    assert decide(None, False, run, openai=True) == Activation(
        False, "says a file beside the weights"
    )
    assert decide(None, None, run, openai=False) == Activation(
        True, f"says the run's name, {run!r}"
    )
    assert decide(None, None, "exp", openai=True) == Activation(True, "OpenAI's models have it")
    undecided = decide(None, None, "exp", openai=False)
    assert (undecided.decided, undecided.name) == (False, "GELU")


def test_the_other_activation_is_that_of_a_model_built_with_it(
    make_model: Callable[..., CLIP],
) -> None:
    models = [make_model("vit", quick) for quick in (True, False)]
    texts = ["a cat", "two dogs"]
    with torch.no_grad():
        one, other = (model.encode_text(texts) for model in models)
        with other_activation(models[0]):
            assert torch.equal(models[0].encode_text(texts), other)
        assert torch.equal(models[0].encode_text(texts), one)
    assert not torch.allclose(one, other)
