"""The classes of a data set from elsewhere: names, what stands for them in a prompt, templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from invertune.data.names import check_class_names, check_templates
from invertune.fields import check_types
from invertune.regular import read_text

IMAGENET = "imagenet"
# Two names stand twice in the list of CLIP's authors: nothing could tell these classes apart. Their
# second readings are WordNet's.
_TWICE = {744: "projectile", 836: "sunglass"}


@dataclass(frozen=True)
class Classes:
    """Names and templates.

    Attributes:
        names: ``imagenet`` for the 1,000 of CLIP's authors, as open_clip has them, or a list.
        path: Of a file with a name in each line, in place of ``names``; after a tab what stands
            for the class in a prompt, such as ``an apple``.
        templates: ``imagenet`` for the 80 of CLIP's authors, or a list, with ``{}``.
        plurals: Names that are plurals themselves.
    """

    names: str | Sequence[str] | None = None
    path: str | None = None
    templates: str | Sequence[str] = IMAGENET
    plurals: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_types(self)
        if (self.names is None) == (self.path is None):
            raise ValueError(
                f"classes has names (a list, or {IMAGENET}) or a path, one of the two; got "
                f"names={self.names!r:.40} and path={self.path!r:.40}"
            )
        for field in ("names", "templates"):
            value = getattr(self, field)
            if isinstance(value, str) and value != IMAGENET:
                raise ValueError(f"classes.{field} is a list, or {IMAGENET}, got {value!r:.80}")
        if not isinstance(self.templates, str):
            check_templates(self.templates, "classes.templates")
        if self.names is not None and not isinstance(self.names, str):
            check_class_names(self.names, "classes.names")

    def load(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Return the class names, the prompts and the templates.

        Raises:
            ValueError: If the file is something else than names.
            OSError: If it cannot be read.
        """
        names, prompts = self._named() if self.path is None else _read(Path(self.path))
        check_class_names(names, "classes.names" if self.path is None else self.path)
        return tuple(names), tuple(prompts), tuple(self._templates())

    def _named(self) -> tuple[list[str], list[str]]:
        if self.names == IMAGENET:
            import open_clip

            known = enumerate(open_clip.IMAGENET_CLASSNAMES)
            names = [_TWICE.get(place, name) for place, name in known]
        else:
            names = list(self.names or ())
        return names, names

    def _templates(self) -> list[str]:
        if self.templates != IMAGENET:
            return list(self.templates)
        import open_clip

        return [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]


def _read(path: Path) -> tuple[list[str], list[str]]:
    """Return the names and prompts that a file lists."""
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} has no class names, one in a line")
    split = [[field.strip() for field in line.split("\t")] for line in lines]
    long = next((number for number, fields in enumerate(split, 1) if len(fields) > 2), None)
    if long is not None:
        raise ValueError(f"{path}, line {long}: a class name, and perhaps a tab and a prompt")
    return [fields[0] for fields in split], [fields[-1] for fields in split]
