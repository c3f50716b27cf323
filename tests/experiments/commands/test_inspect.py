from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments import cli
from invertune.clip.spec import ModelSpec

ARCHITECTURE = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom experiments.cli import main\n"
        "try: main(['inspect', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'open_clip', 'numpy') if m in sys.modules])"
    )
    words, root = [sys.executable, "-c", code], Path(cli.__file__).parent.parent
    shown = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root)
    assert shown.stdout.startswith("usage: invertune inspect")
    assert shown.stdout.endswith("[]\n")


def test_a_checkpoint_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = ModelSpec("m", architecture=ARCHITECTURE).build(0), tmp_path / "epoch_7.pt"
    state = {f"module.{name}": value for name, value in model.clip.state_dict().items()}
    torch.save({"epoch": 7, "name": "run", "state_dict": state, "optimizer": {}}, path)
    assert cli.main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    rows = [line.split(maxsplit=1) for line in shown]
    names, values = [row[0] for row in rows], [row[1] for row in rows]
    assert names == [
        "checkpoint", "architecture", "image", "embedding", "activation", "pixels", "resizing",
        "parameters", "SHA-256", *["note"] * 4,
    ]  # fmt: skip
    assert values[0] == "training checkpoint of open_clip, CleanCLIP or the like"
    assert '"patch_size": 16' in values[1]
    assert values[2] == "size    32 x 32 pixels"
    assert re.fullmatch(
        r"the activation is undecided, GELU or QuickGELU; GELU is taken\. The features of the two "
        r"have a mean cosine of (0\.\d{3}|1\.000) on 8 images, of (0\.\d{3}|1\.000) on 5 texts",
        values[4],
    )
    assert values[5].startswith("mean 0.4815, 0.4578, 0.4082, standard deviation 0.2686,")
    assert values[6:8] == ["shortest, bicubic", f"{model.parameter_count:,}"]
    assert values[8] == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  epoch_7.pt"
    assert values[9:12] == ["epoch 7", "name 'run'", "left out: optimizer"]


def test_the_user_knows_the_activation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = ModelSpec("m", architecture=ARCHITECTURE).build(0), tmp_path / "w.pt"
    torch.save(model.clip.state_dict(), path)
    for name, shown in (("gelu", "GELU"), ("quickgelu", "QuickGELU")):
        assert cli.main(["inspect", str(path), "--activation", name]) == 0
        assert f"{shown}: as asked for" in capsys.readouterr().out


def test_a_failure_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(tmp_path / "gone.pt")]) == cli.FAILURE
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {tmp_path / 'gone.pt'} does not exist")
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_what_a_checkpoint_says_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = "a\x1b[2J\nnote          it is clean\u202e"
    model = ModelSpec("m", architecture=ARCHITECTURE).build(0)
    monkeypatch.chdir(tmp_path)
    torch.save(model.clip.state_dict(), hidden)
    assert cli.main(["inspect", hidden]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert all(line.isprintable() for line in lines)
    assert "note          it is clean" not in lines
    assert any(line.endswith(r"a\x1b[2J\nnote          it is clean\u202e") for line in lines)
    assert cli.main(["inspect", f"{hidden}-not"]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert complaint.rstrip("\n").isprintable()
