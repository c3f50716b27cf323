"""JSON schemas as quick tests: a folder of a thousand results is read in a moment.

What is wrong with one says `jsonschema`, which takes a hundred times as long.
``ascending`` is a keyword of our own: the named properties are numbers, each at least the last.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

Schema = Mapping[str, Any]
Test = Callable[[Any], bool]
# Makes the test of one keyword: its value, the schema that it stands in, the whole schema.
Maker = Callable[[Any, Schema, "Whole"], Test]


class Whole:
    """A whole schema, whose ``$defs`` are compiled once."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._made: dict[str, Test] = {}

    def test(self, schema: Schema | bool) -> Test:
        """Return the test of a part.

        Raises:
            ValueError: If it has a keyword that no test is known for.
        """
        if isinstance(schema, bool):
            return lambda _: schema
        unknown = schema.keys() - _MAKERS.keys() - _WORDS
        if unknown:
            raise ValueError(f"no test for the keywords {', '.join(sorted(unknown))} of a schema")
        makers = {_MAKERS[key]: key for key in schema if key in _MAKERS}  # two keywords, one test
        return _every([make(schema[key], schema, self) for make, key in makers.items()])

    def reference(self, way: str) -> Test:
        """Return the test of ``#/$defs/name``."""
        name = way.removeprefix("#/$defs/")
        if name not in self._made:
            self._made[name] = self.test(self.schema["$defs"][name])
        return self._made[name]


def quick(schema: Schema) -> Test:
    """Return whether a value fits a schema, as a test.

    Raises:
        ValueError: If the schema has a keyword that no test is known for.
    """
    return Whole(schema).test(schema)


def check(schema: Schema, value: object, test: Test) -> None:
    """Compare a value with a schema.

    Args:
        schema: The schema.
        value: May be anything.
        test: What `quick` made of the schema.

    Raises:
        ValueError: If it differs; names the first place.
    """
    if test(value):
        return
    found = _thorough(schema).iter_errors(cast(Any, value))
    errors = sorted(found, key=lambda error: list(map(str, error.path)))
    if errors:
        first = _innermost(errors[0])
        place = "/".join(map(str, first.absolute_path)) or "the file"
        raise ValueError(f"{place}: {first.message[:200]}")


def _thorough(schema: Schema) -> Validator:
    """Return `jsonschema`'s validator, which knows ``ascending`` too."""
    from jsonschema import Draft202012Validator, ValidationError, validators

    def ascend(_: Any, names: Sequence[str], value: Any, __: Any) -> Iterator[ValidationError]:
        if not _ascends(names)(value):
            yield ValidationError(f"{' <= '.join(names)} does not hold of {value!r}")

    extend: Any = validators.extend
    made: Validator = extend(Draft202012Validator, {"ascending": ascend})(schema)
    return made


def _innermost(error: ValidationError) -> ValidationError:
    """Of the forms that a value may have, the one that it comes closest to says what is wrong."""
    while error.context:
        error = max(error.context, key=lambda one: len(one.absolute_path))
    return error


def _every(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]

    return lambda value: all(test(value) for test in tests)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool)


_TYPES: Mapping[str, Test] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": _is_integer,
}


def _type(names: str | list[str], _: Schema, __: Whole) -> Test:
    tests = [_TYPES[name] for name in ([names] if isinstance(names, str) else names)]
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _of(kind: type | tuple[type, ...], test: Test) -> Test:
    """Return a test that holds of all values of other kinds."""
    return lambda value: not isinstance(value, kind) or isinstance(value, bool) or test(value)


def _one_of(values: list[Any], _: Schema, __: Whole) -> Test:
    known = [(isinstance(value, bool), value) for value in values]
    return lambda value: (isinstance(value, bool), value) in known


def _object(_: Any, schema: Schema, whole: Whole) -> Test:
    """Return the test of ``properties`` and ``additionalProperties``."""
    own = {name: whole.test(part) for name, part in schema.get("properties", {}).items()}
    other = whole.test(schema.get("additionalProperties", True))
    return _of(dict, lambda value: all(own.get(key, other)(part) for key, part in value.items()))


def _items(part: Schema, _: Schema, whole: Whole) -> Test:
    test = whole.test(part)
    return _of(list, lambda value: all(map(test, value)))


def _names(part: Schema, _: Schema, whole: Whole) -> Test:
    test = whole.test(part)
    return _of(dict, lambda value: all(map(test, value)))


def _any(parts: list[Schema], _: Schema, whole: Whole) -> Test:
    tests = [whole.test(part) for part in parts]
    return lambda value: any(test(value) for test in tests)


def _not(part: Schema, _: Schema, whole: Whole) -> Test:
    test = whole.test(part)
    return lambda value: not test(value)


def _pattern(pattern: str, _: Schema, __: Whole) -> Test:
    search = re.compile(pattern).search
    return _of(str, lambda value: search(value) is not None)


def _ascends(names: Sequence[str]) -> Test:
    def fits(value: dict[str, Any]) -> bool:
        numbers = [value[name] for name in names if _is_number(value.get(name))]
        return all(first <= second for first, second in itertools.pairwise(numbers))

    return _of(dict, fits)


_NUMBERS = (int, float)
# Words for people and for tools, which test nothing.
_WORDS = {"$schema", "title", "description", "$defs"}
_MAKERS: Mapping[str, Maker] = {
    "type": _type,
    "enum": _one_of,
    "const": lambda value, schema, whole: _one_of([value], schema, whole),
    "minimum": lambda least, *_: _of(_NUMBERS, lambda value: value >= least),
    "maximum": lambda most, *_: _of(_NUMBERS, lambda value: value <= most),
    "minLength": lambda least, *_: _of(str, lambda value: len(value) >= least),
    "maxLength": lambda most, *_: _of(str, lambda value: len(value) <= most),
    "pattern": _pattern,
    "required": lambda names, *_: _of(dict, lambda value: all(name in value for name in names)),
    "properties": _object,
    "additionalProperties": _object,
    "propertyNames": _names,
    "ascending": lambda names, *_: _ascends(names),
    "items": _items,
    "anyOf": _any,
    "not": _not,
    "$ref": lambda way, _, whole: whole.reference(way),
}
