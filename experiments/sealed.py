"""JSON files that carry the hash of their content: results of runs, and cards of checkpoints."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.files import digest, read_json, replacing
from experiments.schema import Test, check, quick

HASH = "sha256"


@dataclass(frozen=True)
class Sealed:
    """A kind of such files.

    Attributes:
        schema: Its JSON schema.
        version: The version of the schema, which every file says.
        field: Where it says so.
    """

    schema: Path
    version: int
    field: str

    def check(self, content: object) -> None:
        """Compare a content with the schema.

        Raises:
            ValueError: If it differs; names the first place.
        """
        check(_read(self.schema), content, _quick(self.schema))

    def seal(self, content: Mapping[str, object]) -> dict[str, object]:
        """Return a content with its hash, whatever hash it had."""
        bare = {key: value for key, value in content.items() if key != HASH}
        return {**bare, HASH: digest(bare)}

    def write(self, path: Path, content: Mapping[str, object]) -> None:
        """Write a file in one step; one that holds the same already is left as it is.

        Raises:
            ValueError: If the content differs from the schema.
        """
        self.check(content)
        sealed = self.seal(content)
        text = json.dumps(sealed, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if path.exists() and path.read_bytes() == text.encode():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    def read(self, path: Path) -> dict[str, Any]:
        """Return the content; its hash proves that it is as it was when it was written.

        Whoever can write a file can seal it as well, so it is compared with the schema too.

        Raises:
            OSError: If there is no such file.
            ValueError: If the file is truncated, of another version, was edited, or differs from
                the schema.
        """
        content = read_json(path)
        found = content.get(self.field) if isinstance(content, dict) else None
        if found != self.version:
            raise ValueError(
                f"its schema version is {found!r:.40}, this program reads {self.version}"
            )
        if self._hash(content) != content.get(HASH):
            raise ValueError("it was edited: its hash differs from its content")
        self.check(content)
        return dict(content)

    def _hash(self, content: Mapping[str, object]) -> object:
        try:
            return self.seal(content)[HASH]
        except ValueError as error:
            raise ValueError(f"it is no JSON, or truncated ({error})") from error


@functools.cache
def _read(schema: Path) -> Any:
    return json.loads(schema.read_text(encoding="utf-8"))


@functools.cache
def _quick(schema: Path) -> Test:
    return quick(_read(schema))
