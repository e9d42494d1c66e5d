"""Parameters given on the command line: ``NODE.NAME=VALUE``, checked before anything starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import yaml

from humanx.graph import NodeSpec, Value, config_dir
from humanx_description.errors import UserError


def known_parameters(spec: NodeSpec) -> dict[str, object]:
    """Return the parameters of a node's YAML file and of the node list, by flat name (``group.name``)."""
    known: dict[str, object] = {}
    if spec.config is not None:
        path = config_dir() / spec.config
        try:
            data = yaml.safe_load(path.read_text(encoding='utf-8'))
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f'{path}: cannot be read ({error}); expected a ROS parameter file.') from None
        try:
            known.update(_flat(data['/**']['ros__parameters']))
        except (KeyError, TypeError, AttributeError):
            raise UserError(f'{path}: has no /** and ros__parameters; expected a ROS parameter file.') from None
    return {**known, **spec.parameters}


def _flat(mapping: dict, prefix: str = '') -> dict[str, object]:
    out: dict[str, object] = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            out.update(_flat(value, f'{prefix}{key}.'))
        else:
            out[f'{prefix}{key}'] = value
    return out


def override(specs: Sequence[NodeSpec], assignments: Sequence[str]) -> list[NodeSpec]:
    """Return the nodes with ``NODE.NAME=VALUE`` applied; values are read as YAML.

    Raises :class:`UserError` for an unknown node or parameter, with those that are known, and for a value of another
    type than the one it replaces.
    """
    out = {spec.name: spec for spec in specs}
    for assignment in assignments:
        target, equals, text = assignment.partition('=')
        node, dot, name = target.partition('.')
        if not equals or not dot or not name:
            raise UserError(f'--param {assignment}: is not an assignment; expected NODE.NAME=VALUE.')
        if node not in out:
            raise UserError(f'--param {assignment}: no node is called {node!r}; expected one of {", ".join(out)}.')
        known = known_parameters(out[node])
        if name not in known:
            raise UserError(
                f'--param {assignment}: {node} has no parameter {name!r}; expected one of {", ".join(sorted(known))}.'
            )
        value = _value(assignment, text, known[name])
        out[node] = dataclasses.replace(out[node], parameters={**out[node].parameters, name: value})
    return list(out.values())


def _value(assignment: str, text: str, previous: object) -> Value:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(previous, str):
        return text
    if isinstance(previous, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(previous, list) and isinstance(value, list):
        kinds = {type(entry) for entry in previous}
        if all(type(entry) in kinds for entry in value):
            return value
    elif type(value) is type(previous) and isinstance(value, bool | int | float):
        return value
    raise UserError(f'--param {assignment}: holds {value!r}; expected a value like {previous!r}.')
