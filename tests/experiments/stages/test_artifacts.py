from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.stages import artifacts


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    value = {"names": ["Zürich", None], "losses": [0.1, 1e-30], "deep": {"a": True}}
    artifacts.write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == value


def test_every_file_is_left_by_some_stage(tiny_run: Any) -> None:
    # A run without a detector has none of its files; test_detect.py looks at them.
    of_detectors = {artifacts.DETECTION, artifacts.SUSPICION}
    names = [value for name, value in vars(artifacts).items() if name.isupper()]
    left = {file.split("/")[0] for stage in tiny_run.made.values() for file in
            stage.manifest["files"]}  # fmt: skip
    assert len(names) > 5
    assert set(names) - of_detectors <= left
