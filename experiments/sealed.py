"""JSON files that carry the hash of their content: results of runs, and cards of checkpoints."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from experiments.files import digest, replacing

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

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
        found = _validator(self.schema).iter_errors(cast(Any, content))
        errors = sorted(found, key=lambda error: list(map(str, error.path)))
        if errors:
            place = "/".join(map(str, errors[0].absolute_path)) or "the file"
            raise ValueError(f"{place}: {errors[0].message[:200]}")

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

        Raises:
            OSError: If there is no such file.
            ValueError: If the file is truncated, of another version, or was edited.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = content.get(self.field) if isinstance(content, dict) else None
            if found == self.version:
                sealed = self.seal(content)[HASH] == content.get(HASH)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON, or truncated ({error})") from error
        if found != self.version:
            raise ValueError(
                f"its schema version is {found!r:.40}, this program reads {self.version}"
            )
        if not sealed:
            raise ValueError("it was edited: its hash differs from its content")
        return dict(content)


@functools.cache
def _validator(schema: Path) -> Validator:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
