"""Weights of open_clip's tags and of one's own files, made here: no test asks the network."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from invertune.clip import assembly, pretrained
from invertune.clip.files import content_hash
from invertune.clip.models import CLIP
from invertune.clip.preprocessing import Preprocessing
from invertune.clip.pretrained import fetch, require_tag, usual_name
from invertune.clip.spec import ModelSpec

Make = Callable[..., CLIP]
Same = Callable[[CLIP, CLIP], bool]
StateOf = Callable[..., dict[str, Tensor]]
KIND = {"RN50": "resnet", "RN101": "split", "ViT-B-32": "vit"}
EXTRAS = ("input_resolution", "context_length", "vocab_size")
QUICK, PLAIN = "RN50-quickgelu", "RN50"


def _config(model: CLIP, quick_gelu: bool) -> dict[str, Any]:
    """Return what open_clip's list would say of a model."""
    visual: Any = model.visual
    resnet = hasattr(visual, "layer1")
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4} if resnet else {
        "image_size": 32, "layers": len(visual.transformer.resblocks), "width": 64,
        "patch_size": 16, "head_width": 64 // visual.transformer.resblocks[0].attn.num_heads,
    }  # fmt: skip
    blocks: Any = model.clip.transformer
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "layers": 1,
            "heads": blocks.resblocks[0].attn.num_heads}  # fmt: skip
    named = {"quick_gelu": True} if quick_gelu else {}
    return {"embed_dim": 32, **named, "vision_cfg": vision, "text_cfg": text}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, make_model: Make) -> None:
    """Make three models of open_clip's list small ones."""
    configs = {
        f"{name}{ending}": _config(make_model(kind), bool(ending))
        for name, kind in KIND.items()
        for ending in ("", "-quickgelu")
    }
    original = open_clip.get_model_config

    def config(name: str) -> Any:
        return json.loads(json.dumps(configs[name])) if name in configs else original(name)

    for module in (open_clip, assembly.open_clip, pretrained.open_clip):
        monkeypatch.setattr(module, "get_model_config", config)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder that stands for the user's own, with no download of before in it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(pretrained, "_cached", lambda _: None)
    return home


def _archive(state: Mapping[str, Tensor], path: Path) -> None:
    """Write what OpenAI's archives are: a script of half-precision tensors and three numbers."""
    root = nn.Module()
    numbers = dict.fromkeys(EXTRAS, torch.tensor(16))
    for name, value in {**state, **numbers}.items():
        *places, last = name.split(".")
        module = root
        for place in places:
            if place not in dict(module.named_children()):
                module.add_module(place, nn.Module())
            module = module.get_submodule(place)
        module.register_buffer(last, value)
    torch.jit.save(torch.jit.script(root), path)


def _spec(name: str = QUICK, **fields: Any) -> ModelSpec:
    return ModelSpec("mine", open_clip_name=name, **fields)


def _folder(state: Mapping[str, Tensor], folder: Path, quick_gelu: bool, **pixels: Any) -> Path:
    folder.mkdir()
    safetensors.torch.save_file(dict(state), folder / "open_clip_model.safetensors")
    model = {"quick_gelu": True} if quick_gelu else {"embed_dim": 32}
    # As the image towers alone lie in the hub's folders.
    (folder / "config.json").write_text('{"architecture": "resnet50_clip"}')
    safetensors.torch.save_file({"stem.weight": torch.ones(2)}, folder / "model.safetensors")
    said = {"model_cfg": model | {"text_cfg": {"heads": 1}}, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    return folder


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["RN50", "ViT-B-32"])
def test_openais_own_archive_is_read(
    name: str, tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    original = make_model(KIND[name])
    path = tmp_path / f"{name}.pt"
    _archive(state_of(original, torch.float16), path)
    (tmp_path / "RN101.pt").write_bytes(b"another model of OpenAI's")
    for place in (path, tmp_path):  # of several files in a folder, the one of the model's name
        model = _spec(f"{name}-quickgelu", path=str(place), sha256=content_hash(path)).build()
        assert same(model.eval(), original)
        assert (model.name, model.image_size) == ("mine", 32)
        assert model.preprocessing == Preprocessing()
    with pytest.raises(ValueError, match=rf"has QuickGELU .*: open_clip_name={name}-quickgelu$"):
        _spec(name, path=str(path)).build()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("file", ["w.bin", "w.pt", "w.safetensors", "vit_b_32-laion2b_e16-af8.pth"])
@pytest.mark.parametrize("quick_gelu", [True, False])
def test_a_file_that_says_nothing_has_the_models_activation(
    file: str, quick_gelu: bool, tmp_path: Path, make_model: Make, state_of: StateOf, same: Same,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    original, path = make_model("vit", quick_gelu), tmp_path / file
    save = safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save
    save(state_of(original), path)
    name = "ViT-B-32-quickgelu" if quick_gelu else "ViT-B-32"
    assert same(_spec(name, path=str(path)).build().eval(), original)
    assert "nothing says whether it has GELU or QuickGELU" in caplog.text
    assert f"is taken, as {name} has it" in caplog.text


@pytest.mark.usefixtures("small")
def test_a_file_of_open_clips_own_name_has_the_activation_of_its_training(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    original = make_model("vit", False)
    path = tmp_path / "vit_b_32-laion2b_e16-af8dbd0c.pth"
    torch.save({"state_dict": state_of(original), "epoch": 16}, path)
    assert same(_spec("ViT-B-32", path=str(path)).build().eval(), original)
    with pytest.raises(ValueError, match=r"has GELU \(open_clip's vit_b_32-laion2b_e16-.* has it"):
        _spec("ViT-B-32-quickgelu", path=str(path)).build()


@pytest.mark.usefixtures("small")
def test_a_folder_of_the_hub_tells_activation_and_pixels(
    tmp_path: Path, make_model: Make, state_of: StateOf, same: Same
) -> None:
    for quick_gelu, name, other in ((True, QUICK, PLAIN), (False, PLAIN, QUICK)):
        original = make_model("resnet", quick_gelu)
        folder = _folder(
            state_of(original), tmp_path / name, quick_gelu, mean=[0.5] * 3, std=[0.25] * 3
        )
        model = _spec(name, path=str(folder)).build().eval()
        assert model.preprocessing == Preprocessing((0.5,) * 3, (0.25,) * 3)
        original.preprocess_by(model.preprocessing)
        assert same(model, original)
        with pytest.raises(ValueError, match=rf"says a file beside.*: open_clip_name={name}$"):
            _spec(other, path=str(folder)).build()
        told = _spec(name, path=str(folder), preprocessing=Preprocessing()).build()
        assert told.preprocessing == Preprocessing()


@pytest.mark.usefixtures("small")
def test_weights_of_another_model_are_said_to_be_that(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    torch.save(state_of(make_model("vit")), tmp_path / "w.pt")
    rule = r"w\.pt is not of the model mine, but open_clip's ViT-B-32: visual\.conv1\.weight is"
    with pytest.raises(ValueError, match=rule):
        _spec(path=str(tmp_path / "w.pt")).build()
    torch.save(state_of(make_model("split")), tmp_path / "w.pt")
    own = _config(make_model("split"), False)
    ModelSpec("own", architecture=own, path=str(tmp_path / "w.pt")).build()
    own["embed_dim"] = 16
    with pytest.raises(ValueError, match=r"not of the model own.*: text_projection is \[64, 32\]"):
        ModelSpec("own", architecture=own, path=str(tmp_path / "w.pt")).build()


def _truncated(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-100])


def _cut_safetensors(state: dict[str, Tensor], path: Path) -> None:
    safetensors.torch.save_file(state, path)
    path.write_bytes(path.read_bytes()[:-100])


def _tower_alone(state: dict[str, Tensor], path: Path) -> None:
    torch.save({name: value for name, value in state.items() if name.startswith("visual.")}, path)


BROKEN: dict[str, tuple[Callable[[dict[str, Tensor], Path], None], str]] = {
    "nothing": (lambda _, __: None, r"w\.pt does not exist"),
    "empty": (lambda _, path: path.write_bytes(b"") and None, r"w\.pt is no checkpoint; choices"),
    "cut": (_truncated, r"w\.pt is a damaged zip archive"),
    "cut safetensors": (_cut_safetensors, r"w\.pt is a damaged safetensors file"),
    "tower": (_tower_alone, r"w\.pt is an image encoder alone"),
    "folder": (lambda _, path: path.mkdir(), r"w\.pt is a folder without weights.*RN50\.pt"),
    "pointer": (
        lambda _, path: path.write_text("version https://git-lfs.github.com/spec/v1\n") and None,
        r"w\.pt is a pointer of Git LFS, not the file itself: git lfs pull",
    ),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_read_is_one_line(
    kind: str, tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    spoil, said = BROKEN[kind]
    spoil(state_of(make_model("resnet")), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=said) as raised:
        _spec(path=str(tmp_path / "w.pt")).build()
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("small")
def test_a_file_that_is_not_the_one_of_the_config_is_refused(
    tmp_path: Path, make_model: Make, state_of: StateOf
) -> None:
    torch.save(state_of(make_model("resnet")), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"has the SHA-256 [0-9a-f]{64}, the model's is abc$"):
        _spec(path=str(tmp_path / "w.pt"), sha256="abc").build()


def test_a_tag_is_one_that_the_model_has_with_its_activation() -> None:
    assert require_tag(QUICK, "openai")["quick_gelu"]
    assert not require_tag("ViT-B-32", "laion2b_s34b_b79k").get("quick_gelu", False)
    cases = {
        ("ViT-B-32", "laion3b"): r"weights of ViT-B-32 are one of openai, .*, got weights 'laion3",
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k"): r"which are those of ViT-B-32$",
        ("RN50", "openai"): r"trained with QuickGELU, which RN50 has not: .*=RN50-quickgelu$",
        ("ViT-S-32", "openai"): r"open_clip has none of ViT-S-32, got weights 'openai'",
    }
    for (name, tag), said in cases.items():
        for check in (lambda: require_tag(name, tag), lambda: _spec(name, weights=tag).check()):  # noqa: B023
            with pytest.raises(ValueError, match=said):
                check()
    assert [usual_name(name) for name in ("RN50", "ViT-B-16-quickgelu", "ViT-S-32", None)] == [
        "RN50.pt", "ViT-B-16.pt", None, None,
    ]  # fmt: skip


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("quick_gelu", [True, False])
def test_open_clips_files_are_brought_by_it_and_read_here(
    quick_gelu: bool, tmp_path: Path, no_cache: Path, monkeypatch: pytest.MonkeyPatch,
    make_model: Make, state_of: StateOf, same: Same, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    original, path = make_model("vit", quick_gelu), tmp_path / "open_clip_model.safetensors"
    safetensors.torch.save_file(state_of(original), path)
    asked: list[Any] = []

    def download(told: Any) -> str:
        asked.append(told)
        return str(path)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a reader that is not ours")

    monkeypatch.setattr("open_clip.pretrained.download_pretrained", download)
    for reader in ("torch.load", "torch.jit.load", "open_clip.create_model"):
        monkeypatch.setattr(reader, refuse)
    name, tag = ("ViT-B-32", "laion2b_s34b_b79k")
    if quick_gelu:
        name, tag = "ViT-B-32-quickgelu", "openai"
    with caplog.at_level(logging.INFO):
        model = _spec(name, weights=tag).build().eval()
    assert same(model, original)
    assert f"the weights {tag} of {name}, from {path}" in caplog.text
    hub = "timm/vit_base_patch32_clip_224.openai/" if quick_gelu else (
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"
    )  # fmt: skip
    assert asked == [{"hf_hub": hub}]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"damaged.*; without {path} it is downloaded again$"):
        _spec(name, weights=tag).build()


def test_without_a_network_it_says_what_to_get_and_where_it_goes(
    no_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def download(told: dict[str, str]) -> str:
        asked.extend(told)
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("open_clip.pretrained.download_pretrained", download)
    with pytest.raises(ValueError, match="cannot be downloaded") as raised:
        fetch(QUICK, "openai")
    assert asked == ["hf_hub", "url"]
    assert str(raised.value) == (
        "the weights openai of RN50-quickgelu are not here and cannot be downloaded (no route to "
        "host; no route to host): get RN50.pt (https://openaipublic.azureedge.net/clip/models/"
        "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt) or "
        "open_clip_model.safetensors of https://huggingface.co/timm/resnet50_clip.openai elsewhere "
        "and say model.path=FILE, or RN50.pt goes into ~/.cache/clip"
    )
    with pytest.raises(ValueError, match=r"elsewhere and say model\.path=FILE$"):
        fetch("ViT-B-32", "laion2b_s34b_b79k")
    asked.clear()
    # A file that is there already is looked at first, without the hub.
    (no_cache / ".cache" / "clip").mkdir(parents=True)
    (no_cache / ".cache" / "clip" / "RN50.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be downloaded"):
        fetch(QUICK, "openai")
    assert asked == ["url", "hf_hub"]


def test_what_the_hub_left_before_is_taken_without_asking_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cached(repository: str, name: str) -> str | None:
        asked.append((repository, name))
        return str(tmp_path / name) if name.endswith(".bin") else None

    asked: list[tuple[str, str]] = []
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    monkeypatch.delattr("open_clip.pretrained.download_pretrained")
    assert fetch(QUICK, "openai") == tmp_path / "open_clip_pytorch_model.bin"
    assert asked[0] == ("timm/resnet50_clip.openai", "open_clip_model.safetensors")
    assert {repository for repository, _ in asked} == {"timm/resnet50_clip.openai"}


def test_a_model_without_weights_is_drawn_by_the_seed(tiny_spec: Callable[[str], Any]) -> None:
    spec = ModelSpec("mine", architecture=tiny_spec("vit").architecture)
    one, other = (spec.build(1).clip.state_dict() for _ in range(2))
    torch.rand(3)
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ValueError, match="weights=openai are open_clip's: they need open_clip_nam"):
        ModelSpec("mine", weights="openai", architecture=spec.architecture).build()
