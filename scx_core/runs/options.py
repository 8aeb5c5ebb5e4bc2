"""Configurations: a frozen dataclass whose fields say what they are once, for the CLI, the forms and JSON."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, Union

from scx_core.errors import ScxError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class Option(NamedTuple):
    """One setting. `type` is int, float, str or bool; `optional` says that None is allowed too; `unsaid` what
    the default means, where that is more than its value."""

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[Any, ...] | None
    minimum: float | None
    maximum: float | None
    unit: str
    optional: bool = False
    unsaid: str = ""


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    unit: str = "",
    unsaid: str = "",
) -> Any:
    """A dataclass field with its help, limits (both ends allowed), unit and what its default means."""
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices is not None else None,
        "minimum": minimum,
        "maximum": maximum,
        "unit": unit,
        "unsaid": unsaid,
    }
    return dataclasses.field(default=default, metadata=metadata)


def options_of(cls: type) -> tuple[Option, ...]:
    """The options of a config class, in field order; fields not made by `option()` are left out."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        if "help" not in field.metadata:
            continue
        kind, optional, literal = _plain_type(hints[field.name], f"{cls.__name__}.{field.name}")
        choices = field.metadata["choices"] or literal
        keys = ("help", "minimum", "maximum", "unit", "unsaid")
        words, low, high, unit, unsaid = (field.metadata[key] for key in keys)
        found.append(
            Option(field.name, kind, field.default, words, choices, low, high, unit, optional, unsaid)
        )
    return tuple(found)


def _plain_type(hint: Any, where: str) -> tuple[type, bool, tuple[Any, ...] | None]:
    """(type, None allowed, choices of a Literal). Raises TypeError for a hint that no form could show."""
    optional = False
    if typing.get_origin(hint) in (Union, types.UnionType):
        members = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        optional = len(members) < len(typing.get_args(hint))
        hint = members[0] if len(members) == 1 else hint
    if typing.get_origin(hint) is typing.Literal:
        values = typing.get_args(hint)
        return type(values[0]), optional, values
    if hint not in _NOUNS:
        raise TypeError(
            f"{where}: an option is int, float, str, bool, a Literal of them, or one of them or None"
        )
    return hint, optional, None


def add_arguments(
    parser: argparse.ArgumentParser | Any,
    cls: type,
    *,
    skip: Sequence[str] = (),
    base: Any = None,
    unsaid: str = "",
) -> None:
    """One `--name` per option. Values stay text until `from_namespace`: all checks are made in one place.

    `skip` leaves out options that the parser has already (such as a common `--seed`). `base` is what stands
    where nothing is typed (a preset), for the help; `unsaid` what the help says instead of each default,
    where the model decides.
    """
    for opt in options_of(cls):
        if opt.name in skip:
            continue
        flag = "--" + opt.name.replace("_", "-")
        default = opt.default if base is None else getattr(base, opt.name)
        stands = unsaid or (opt.unsaid if default == opt.default else "") or _shown(default)
        words = f"{opt.help}{_limits(opt)} (default: {stands})".replace("%", "%%")
        if opt.type is bool and not opt.optional:
            parser.add_argument(
                flag,
                action=argparse.BooleanOptionalAction,
                dest=opt.name,
                default=argparse.SUPPRESS,
                help=words,
            )
            continue
        metavar = "{" + ",".join(map(str, opt.choices)) + "}" if opt.choices else opt.type.__name__.upper()
        parser.add_argument(
            flag, dest=opt.name, default=argparse.SUPPRESS, metavar=metavar.replace("%", "%%"), help=words
        )


def from_namespace(cls: type[T], ns: argparse.Namespace, base: T | None = None) -> T:
    """What the command line asks for: `base` (a preset; else the defaults) with what was typed on top.

    Raises ScxError naming the option and its limits.
    """
    config = cls() if base is None else base
    given = vars(ns)
    values = {
        opt.name: _coerce(opt, given[opt.name], "--" + opt.name.replace("_", "-"), text=True)
        for opt in options_of(cls)
        if opt.name in given
    }
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain JSON types."""
    return dataclasses.asdict(config)


AGAIN = "Restore the file that holds it, or make it anew."


def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
    """The config from `to_dict`'s output; absent keys take their defaults.

    Raises ScxError for what is no object, an unknown key, one that is missing, or a value outside its limits.
    """
    if not isinstance(data, Mapping):
        raise ScxError(f"{cls.__name__} is {repr(data)[:60]}, expected an object of settings.", AGAIN)
    hints = typing.get_type_hints(cls)
    fields = {field.name for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    unknown = sorted(set(map(str, data)) - fields)
    if unknown:
        raise ScxError(
            f"{cls.__name__} has no setting {', '.join(unknown)}.",
            f"Known settings: {', '.join(sorted(fields))}.",
        )
    options = {opt.name: opt for opt in options_of(cls)}
    values = {}
    for name, value in data.items():
        if name in options:
            value = _coerce(options[name], value, name)
        elif dataclasses.is_dataclass(hints[name]) and not isinstance(value, typing.cast(type, hints[name])):
            value = from_dict(typing.cast(type, hints[name]), value)
        values[name] = value
    try:
        return cls(**values)
    except TypeError as error:  # a setting without a default is not there
        raise ScxError(f"{cls.__name__} is not complete ({str(error)[:80]}).", AGAIN) from error


def check(config: Any) -> None:
    """Raise ScxError when an option has a wrong type or is outside its limits (for `__post_init__`)."""
    for opt in options_of(type(config)):
        _coerce(opt, getattr(config, opt.name), opt.name)


def _coerce(opt: Option, value: Any, shown: str, text: bool = False) -> Any:
    """`value` as the option's type, checked. `text`: it was typed, so "12" is a number and "none" is None."""
    text = text and isinstance(value, str)  # a switch is a bool already
    if opt.optional and (value is None or (text and value.lower() == "none")):
        return None
    if value is None:
        raise ScxError(f"{shown} is empty.", f"It must be {_wanted(opt)}.")
    if opt.type is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    adapter = _adapter(opt.type, opt.minimum, opt.maximum)
    try:
        found = adapter.validate_strings(value) if text else adapter.validate_python(value, strict=True)
    except ValueError:  # pydantic's ValidationError is one
        found = None
    if found is None or (opt.choices is not None and found not in opt.choices):
        raise ScxError(f"{shown} is {str(value)[:80]!r}.", f"It must be {_wanted(opt)}.")
    return found


@cache
def _adapter(kind: type, minimum: float | None, maximum: float | None) -> TypeAdapter[Any]:
    """pydantic's validator of a type with limits; infinite and NaN are no numbers.

    It is imported with the first value that is checked: most configurations are defaults, and the dashboard's
    first page must not wait for it.
    """
    from pydantic import Field, TypeAdapter

    finite = False if kind is float else None
    return TypeAdapter(Annotated[kind, Field(ge=minimum, le=maximum, allow_inf_nan=finite)])  # type: ignore[arg-type]


def _wanted(opt: Option) -> str:
    choices = f"one of {', '.join(map(_shown, opt.choices))}" if opt.choices else ""
    return (choices or _NOUNS[opt.type] + _limits(opt)) + (", or none" if opt.optional else "")


def _limits(opt: Option) -> str:
    low, high, unit = opt.minimum, opt.maximum, f" {opt.unit}" if opt.unit else ""
    if low is not None and high is not None:
        return f", {low} to {high}{unit}"
    if low is not None:
        return f", at least {low}{unit}"
    if high is not None:
        return f", at most {high}{unit}"
    return f", in {opt.unit}" if opt.unit else ""


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value) or '""'
