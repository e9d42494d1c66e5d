"""Node parameters with descriptions and ranges; a bad value is one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from humanx_description.errors import UserError

_STANDARD = ('use_sim_time', 'start_type_description_service')


@dataclass(frozen=True)
class Param:
    """One parameter, fixed once the node has started. ``lower`` and ``upper`` bound numbers, inclusive."""

    name: str
    default: Any
    description: str
    lower: float | None = None
    upper: float | None = None
    choices: tuple[str, ...] = ()

    def expectation(self) -> str:
        """Return what the parameter must be, for an error message."""
        if self.choices:
            return 'one of ' + ', '.join(repr(choice) for choice in self.choices)
        kind = {bool: 'true or false', int: 'an integer', float: 'a floating-point number', str: 'text'}.get(
            type(self.default), 'a list'
        )
        if self.lower is not None and self.upper is not None:
            kind += f' from {self.lower:g} to {self.upper:g}'
        return kind

    def descriptor(self) -> ParameterDescriptor:
        """Return the descriptor that ``ros2 param describe`` shows."""
        descriptor = ParameterDescriptor(description=self.description, read_only=True)
        if self.choices:
            descriptor.additional_constraints = self.expectation()
        if self.lower is not None and self.upper is not None:
            if isinstance(self.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(self.lower), to_value=int(self.upper))]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.lower), to_value=float(self.upper))
                ]
        return descriptor


def declare(node: Node, params: Sequence[Param]) -> dict[str, Any]:
    """Declare ``params`` on ``node`` and return their values by name.

    Raises :class:`UserError` naming the parameter and what was expected, for a wrong type, a value
    out of range, and a parameter that the node does not have (a misspelt one would be ignored in
    silence).
    """
    known = [param.name for param in params]
    for name in node._parameter_overrides:  # rclpy offers no public list of what was passed
        if name not in known and name not in _STANDARD and not name.startswith('qos_overrides.'):
            raise UserError(f'{node.get_name()}: unknown parameter {name!r}; expected one of {", ".join(known)}.')
    return {param.name: _declare_one(node, param) for param in params}


def _declare_one(node: Node, param: Param) -> Any:
    try:
        value = node.declare_parameter(param.name, param.default, param.descriptor()).value
    except (InvalidParameterTypeException, InvalidParameterValueException):
        given = node._parameter_overrides[param.name].value
        raise _bad(node, param, given) from None
    if param.choices and value not in param.choices:
        raise _bad(node, param, value)
    return value


def _bad(node: Node, param: Param, value: Any) -> UserError:
    return UserError(f'{node.get_name()}: parameter {param.name!r} is {value!r}; expected {param.expectation()}.')
