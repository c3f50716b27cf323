"""What a user gives to Hydra: YAML files with their mistakes, and names that look like numbers."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

from experiments.config import CONF
from experiments.errors import one_line
from experiments.yamls import TEXTS, read_yaml, refuse

_KEY = re.compile(rf"[+~]*(?:[\w.]+\.)?(?:{'|'.join(TEXTS)})")


def load_config(source: ConfigSource, config_path: str) -> ConfigResult:
    """Return the content of a YAML file, as Hydra's source of files does.

    Args:
        source: Of the file.
        config_path: Where it is there.

    Raises:
        ConfigLoadError: If there is no such file.
        ValueError: If there is a mistake in it; names the file and the line.
    """
    path = Path(source.path, source._normalize_file_name(config_path)).resolve()
    if not path.is_file():
        raise ConfigLoadError(f"Config not found : {path}")
    found = path.stat()
    config = copy.deepcopy(_config(path, found.st_mtime_ns, found.st_size))
    header = source._get_header_dict(path.read_text(encoding="utf-8")[:512])
    return ConfigResult(source.provider, f"{source.scheme()}://{source.path}", config, header)


@functools.cache
def _config(path: Path, mtime_ns: int, size: int) -> DictConfig:
    """Return what stands in a file of that age and size; a sweep composes the same ones often."""
    content = read_yaml(path, _loader())
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"{path}, line 1: a config maps keys to values, got {content!r:.80}")
    try:
        return OmegaConf.create(content or {})
    except (OmegaConfBaseException, ValueError) as error:
        raise ValueError(f"{path}: {one_line(error)}") from error


@functools.cache
def _loader() -> Any:
    """Return OmegaConf's loader, which has to understand every interpolation too."""

    class Loader(get_yaml_loader()):  # type: ignore[misc]
        def construct_scalar(self, node: yaml.ScalarNode) -> Any:
            value = super().construct_scalar(node)
            if isinstance(value, str) and "${" in value:
                try:
                    OmegaConf.create({"value": value})
                except OmegaConfBaseException as error:
                    refuse(node, f"{value!r:.80} is no interpolation: {one_line(error)}")
            return value

    return Loader


def register() -> None:
    """Let Hydra read files through `load_config`."""
    # Hydra has no public way to say where a file's mistake is: its reader of files is replaced.
    Plugins.instance()  # whose scan makes the class of Hydra's own source
    # A method, not a class in its place: launchers send the registry to other processes, which
    # know Hydra's own classes only.
    source: Any = SourcesRegistry.instance().types["file"]
    source.load_config = load_config


def composed(overrides: Sequence[str]) -> DictConfig:
    """Return the config of ``conf/`` with overrides, as a command without ``-m`` takes it.

    Raises:
        ValueError: If there is a mistake in a file.
        HydraException: If an override is wrong.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", as_texts(overrides))


def composed_data(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the resolved config of a data set alone, such as of ``data=cc3m``.

    Raises:
        ValueError: If there is a mistake in a file.
        HydraException: If an override is wrong.
        OmegaConfBaseException: If a value is missing.
    """
    config = composed(["defense=none", *overrides])
    whole: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return dict(whole["data"])


def searched_in(folder: str | None) -> list[str]:
    """Return the override by which configs are looked for in a folder, too; none without one.

    Raises:
        ValueError: If there is no such folder.
    """
    if folder is None:
        return []
    path = Path(folder).resolve()
    if not path.is_dir():
        raise ValueError(f"--config-dir is a folder of configs, such as DIR/conf, got {folder}")
    quoted = str(path).replace("'", "\\'")
    return [f"hydra.searchpath=['{quoted}']"]


def as_texts(words: Sequence[str]) -> list[str]:
    """Return a command line whose numbers are quoted where a name or a path is meant.

    ``runs_dir=2024`` would be a number, and ``runs_dir=1_1`` the number 11. Values of a sweep,
    separated by commas, are quoted one by one.
    """
    return [_as_text(word) for word in words]


def _as_text(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals or not _KEY.fullmatch(key):
        return word
    if {*value} & {*"([{"}:
        return word
    quoted = [f"'{part}'" if _is_misread(part) else part for part in value.split(",")]
    return f"{key}={','.join(quoted)}"


def _is_misread(value: str) -> bool:
    """Return whether Hydra reads a value as a number or a switch."""
    try:
        (override,) = OverridesParser.create().parse_overrides([f"name={value}"])
    except HydraException:
        return False
    found: Any = override.value()
    return isinstance(found, int | float)
