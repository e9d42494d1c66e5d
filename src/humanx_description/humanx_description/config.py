"""A strict reader from YAML mappings to typed dataclasses.

Every error is one sentence that names the file, the field and what was expected. Unknown and missing fields are
errors; numbers are converted to ``float`` where a ``float`` is declared, never the other way round.
"""

import dataclasses
import math
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from humanx_description.errors import UserError

T = TypeVar('T')
_EXPONENT = re.compile(r'[-+]?\d+(\.\d*)?[eE][-+]?\d+')


def read_yaml(path: Path) -> dict:
    """Return the mapping a YAML file holds, or raise :class:`UserError`."""
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected a YAML file.') from None
    except UnicodeDecodeError:
        raise UserError(f'{path}: is not UTF-8 text; expected a YAML file.') from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, 'problem_mark', None)
        line = f', line {where.line + 1}' if where else ''
        raise UserError(f'{path}{line}: is not valid YAML; expected a mapping.') from None
    if not isinstance(data, dict):
        raise UserError(f'{path}: holds {_describe(data)}; expected a mapping.')
    return data


def from_mapping(cls: type[T], data: Any, where: str) -> T:
    """Build the dataclass ``cls`` from a mapping.

    Supports nested dataclasses, ``Optional``, ``Literal``, ``bool``, ``int``, ``float``, ``str``, ``dict``,
    ``list[X]``, ``tuple[X, ...]`` and fixed tuples. ``where`` is the prefix of error messages (the file, then
    the field). A ``ValueError`` from ``__post_init__`` becomes a :class:`UserError` with ``where`` in front.
    """
    if not isinstance(data, dict):
        raise UserError(f'{where}: holds {_describe(data)}; expected a mapping.')
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in data if key not in fields)
    if unknown:
        raise UserError(f'{where}: unknown field {unknown[0]!r}; expected one of {", ".join(fields)}.')
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], f'{where}: {name}')
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f'{where}: field {name!r} is missing.')
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f'{where}: {error}') from None


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        options = [a for a in args if a is not type(None)]
        for option in options[:-1]:
            try:
                return _convert(option, value, where)
            except UserError:
                continue
        return _convert(options[-1], value, where)
    if origin is typing.Literal:
        if value not in args:
            raise UserError(f'{where} is {value!r}; expected one of {", ".join(map(str, args))}.')
        return value
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, where)  # type: ignore[arg-type]
    if origin in (list, tuple):
        return _convert_sequence(origin, args, value, where)
    if origin is dict or kind is dict:
        if not isinstance(value, dict):
            raise UserError(f'{where} is {_describe(value)}; expected a mapping.')
        if not args:
            return value
        return {_convert(args[0], k, where): _convert(args[1], v, f'{where}.{k}') for k, v in value.items()}
    if kind is Any:
        return value
    if kind is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)  # YAML 1.1 takes 1e-3 for text, for want of a point
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UserError(f'{where} is {value}; expected a finite number.')
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise UserError(f'{where} is {_describe(value)}; expected {getattr(kind, "__name__", kind)}.')


def _convert_sequence(origin: Any, args: tuple, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise UserError(f'{where} is {_describe(value)}; expected a list.')
    if origin is tuple and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise UserError(f'{where} has {len(value)} entries; expected {len(args)}.')
        kinds: list = list(args)
    else:
        kinds = [args[0] if args else Any] * len(value)
    items = [_convert(k, v, f'{where}[{i}]') for i, (k, v) in enumerate(zip(kinds, value))]
    return origin(items)


def _describe(value: Any) -> str:
    if value is None:
        return 'nothing'
    return f'{value!r} ({type(value).__name__})'
