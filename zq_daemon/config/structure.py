"""Structures tables into frozen attrs classes, strictly, and tells every problem at once.

Owns the conversion rules (what TOML type becomes which Python type) and the collection of errors;
what a value must mean beyond its type is a `Rule` handed in, or the class's own attrs validators.
Called by `config.load` for the file and by the strategy loader for parameters.

Strict: a bool is no int, an int is no string. A Decimal takes a TOML number or a number in quotes,
exactly (a Python float is refused: it is not what was written). `"off"` unsets an optional number,
`""` an optional string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
    StructureHandlerNotFoundError,
)
from cattrs.gen import make_dict_structure_fn, override

from zq_daemon.config.locate import KeyPath
from zq_daemon.config.source import (
    MAX_PROBLEMS,
    Problem,
    Source,
    config_error,
    is_secret_key,
    shown,
)
from zq_daemon.errors import ConfigError

T = TypeVar("T")
Rule = Callable[[Any], None]
"""Raises ValueError (best: Mismatch) when a value of the right type is not acceptable."""
Rules = Mapping[type, Mapping[str, Rule]]
"""By class, by attribute name."""
_Hook = Callable[[Any, Any], Any]

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_NAME = re.compile(r"^\w+|(?<=')\w+(?=')")
"""What a validator's message may name its field by: the first word, or a word in quotes."""
_MAGNITUDE = 30
_NAMES_TOLD = 12


class Mismatch(ValueError):
    """A value is not what its key takes; the value is repeated only where that is harmless."""

    def __init__(self, expected: str, value: Any) -> None:
        super().__init__(expected, value)
        self.expected = expected
        self.value = value


def structure(
    cls: type[T], mapping: Mapping[str, Any], *, source: Source, rules: Rules | None = None
) -> T:
    """An instance of the attrs class *cls* from *mapping*, which *source* says where to find.

    Raises ConfigError with all problems: unknown and missing keys, wrong types, broken *rules* and
    what the class's own validators say.
    """
    try:
        converter = _converter(rules or {})
        return converter.structure(mapping, cls)
    except BaseValidationError as group:
        raise config_error(_problems(group, ()), source) from None
    except Mismatch as error:
        raise config_error([Problem((), _reason(error, ()))], source) from None
    except (NameError, StructureHandlerNotFoundError) as error:
        reason = f"{cls.__qualname__} is badly annotated: {error}"
        raise ConfigError(f"{source.name}: {reason}") from None


def check(cls: type[T], mapping: Mapping[str, Any], rules: Rules) -> Iterator[Problem]:
    """The problems `structure` would raise, as values."""
    try:
        _converter(rules).structure(mapping, cls)
    except BaseValidationError as group:
        yield from _problems(group, ())


def each_item(rule: Rule) -> Rule:
    """A rule for every item of an array; what it refuses is told with its index."""

    def check_items(items: Sequence[Any]) -> None:
        _each(enumerate(items), lambda value, _: rule(value), Any)

    return check_items


def each_entry(key_rule: Rule, value_rule: Rule) -> Rule:
    """Rules for the keys and the values of a free table; what they refuse is told with its key."""

    def check_entry(entry: tuple[str, Any], _: Any) -> None:
        key_rule(entry[0])
        value_rule(entry[1])

    def check_entries(table: Mapping[str, Any]) -> None:
        _each(((key, (key, value)) for key, value in table.items()), check_entry, Any)

    return check_entries


def _converter(rules: Rules) -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for type_, hook in _SCALARS.items():
        converter.register_structure_hook(type_, hook)
    for predicate, factory in (
        (_is_literal, _literal),
        (_is_enum, _enum),
        (_is_sequence, _sequence),
        (_is_mapping, _mapping),
        (_is_optional, _optional),
    ):
        converter.register_structure_hook_factory(predicate, factory)

    def attrs_class(cls: type, converter: Converter) -> _Hook:
        return _table(cls, converter, rules.get(cls, {}))

    converter.register_structure_hook_factory(attrs.has, attrs_class)
    return converter


def _int(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise Mismatch("a whole number", value)
    return value


def _bool(value: Any, _: Any) -> bool:
    if type(value) is not bool:
        raise Mismatch("true or false", value)
    return value


def _str(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise Mismatch("a string in quotes", value)
    return value


def _float(value: Any, _: Any) -> float:
    if isinstance(value, float):
        return value
    return float(_decimal(value, _))


def _decimal(value: Any, _: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise Mismatch("a number", value)
    if isinstance(value, str) and not (len(value) <= _MAGNITUDE and _NUMBER.fullmatch(value)):
        raise Mismatch("a number", value)
    number = Decimal(value)
    if not number.is_finite() or (number and abs(number.adjusted()) > _MAGNITUDE):
        raise Mismatch(f"a finite number within 1e-{_MAGNITUDE} and 1e{_MAGNITUDE}", value)
    return number


_SCALARS: Mapping[type, _Hook] = {
    int: _int,
    bool: _bool,
    str: _str,
    float: _float,
    Decimal: _decimal,
}


def _is_literal(type_: Any) -> bool:
    return get_origin(type_) is Literal


def _literal(type_: Any, _: Converter) -> _Hook:
    return _choice({choice: choice for choice in get_args(type_)})


def _is_enum(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, Enum)


def _enum(type_: Any, _: Converter) -> _Hook:
    return _choice({member.value: member for member in type_})


def _choice(choices: Mapping[Any, Any]) -> _Hook:
    names = ", ".join(repr(choice) for choice in choices)

    def structure_choice(value: Any, _: Any) -> Any:
        for choice, meant in choices.items():
            if type(choice) is type(value) and choice == value:
                return meant
        raise Mismatch(f"one of {names}", value)

    return structure_choice


def _is_optional(type_: Any) -> bool:
    kinds = get_args(type_)
    return get_origin(type_) in (Union, UnionType) and len(kinds) == 2 and NoneType in kinds


def _optional(type_: Any, converter: Converter) -> _Hook:
    kind = next(kind for kind in get_args(type_) if kind is not NoneType)
    hook = converter.get_structure_hook(kind)
    unset = "" if kind is str else "off"

    def structure_optional(value: Any, _: Any) -> Any:
        if value is None or (type(value) is str and value == unset):
            return None
        try:
            return hook(value, kind)
        except Mismatch as error:
            raise Mismatch(f'{error.expected} (or "{unset}")', value) from None

    return structure_optional


def _is_sequence(type_: Any) -> bool:
    origin, kinds = get_origin(type_), get_args(type_)
    return origin in (list, Sequence) or (origin is tuple and len(kinds) == 2 and kinds[1] is ...)


def _sequence(type_: Any, converter: Converter) -> _Hook:
    item = get_args(type_)[0]
    hook = converter.get_structure_hook(item)
    build = list if get_origin(type_) is list else tuple

    def structure_sequence(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise Mismatch("an array", value)
        return build(found for _, found in _each(enumerate(value), hook, item))

    return structure_sequence


def _is_mapping(type_: Any) -> bool:
    return get_origin(type_) in (dict, Mapping) and get_args(type_)[0] is str


def _mapping(type_: Any, converter: Converter) -> _Hook:
    item = get_args(type_)[1]
    hook = (lambda value, _: value) if item is Any else converter.get_structure_hook(item)

    def structure_mapping(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Mismatch("a table", value)
        return dict(_each(value.items(), hook, item))

    return structure_mapping


def _each(pairs: Iterable[tuple[Any, Any]], hook: _Hook, item: Any) -> list[tuple[Any, Any]]:
    """Structure every item; all that fail are raised together, noted with their index or key."""
    found, failed = [], []
    for key, value in pairs:
        try:
            found.append((key, hook(value, item)))
        except (ValueError, BaseValidationError) as error:
            error.add_note(IterableValidationNote("", key, item))
            failed.append(error)
    if failed:
        raise IterableValidationError("array or table", failed, item)
    return found


def _table(cls: type, converter: Converter, rules: Mapping[str, Rule]) -> _Hook:
    """The hook of an attrs class: a table with exactly its keys, each held to its rule."""
    attrs.resolve_types(cls)
    ruled = {
        field.name: override(
            struct_hook=_ruled(converter.get_structure_hook(field.type), rules[field.name])
        )
        for field in attrs.fields(cls)
        if field.name in rules
    }
    inner: _Hook = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        **ruled,  # type: ignore[arg-type]
    )

    def structure_table(value: Any, type_: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Mismatch("a table", value)
        return inner(value, type_)

    return structure_table


def _ruled(hook: _Hook, rule: Rule) -> _Hook:
    def structure_ruled(value: Any, type_: Any) -> Any:
        found = hook(value, type_)
        if found is not None:
            rule(found)
        return found

    return structure_ruled


def _problems(error: Exception, path: KeyPath) -> Iterator[Problem]:
    """Flatten cattrs' tree of errors; its notes give the path."""
    if isinstance(error, BaseValidationError):
        cls = error.cl if isinstance(error, ClassValidationError) else None
        for inner in error.exceptions:
            steps = tuple(_steps(inner))
            if cls is not None and not steps:
                yield from _class_problems(inner, cls, path)
            else:
                yield from _problems(inner, (*path, *steps))
    else:
        yield Problem(path, _reason(error, path))


def _steps(error: Exception) -> Iterator[str | int]:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            yield note.name
        elif isinstance(note, IterableValidationNote):
            yield note.index


def _class_problems(error: Exception, cls: type, path: KeyPath) -> Iterator[Problem]:
    """What is wrong with a table as a whole: unknown keys, or its class refused it."""
    names = [field.name for field in attrs.fields(cls)]
    if isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(error.extra_fields)[: MAX_PROBLEMS + 1]:
            yield Problem((*path, name), _unknown(name, names))
        return
    said = _said(error)
    named = next((name for name in _NAME.findall(said) if name in names), None)
    if named is not None:
        path, names = (*path, named), [named]
    hidden = any(is_secret_key(name) for name in names)
    yield Problem(path, "refused by its own check (values not shown)" if hidden else said)


def _unknown(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name[:100], names, n=1)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    if is_secret_key(name):
        return "unknown key; secrets never belong in this file"
    known = ", ".join(names[:_NAMES_TOLD]) + (", ..." if len(names) > _NAMES_TOLD else "")
    return f"unknown key; known here: {known or 'none'}"


def _reason(error: Exception, path: KeyPath) -> str:
    hidden = any(is_secret_key(key) for key in path)
    match error:
        case Mismatch():
            given = "a value that is not shown" if hidden else shown(error.value)
            return f"expected {error.expected}, got {given}"
        case KeyError():
            return "required key is missing"
    return "not acceptable (its value is not shown)" if hidden else _said(error)


def _said(error: Exception) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
