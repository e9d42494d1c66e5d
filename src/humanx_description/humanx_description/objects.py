"""What the robot handles: shape, size, mass and how it bounces, rolls and flies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Shape = Literal['sphere', 'box', 'cylinder', 'shuttlecock', 'mesh']

_SIZES = {
    'sphere': 'radius',
    'box': 'edge lengths x, y, z',
    'cylinder': 'radius, height',
    'shuttlecock': 'length, skirt radius',
    'mesh': 'scale',
}
_NUM_SIZES = {'sphere': 1, 'box': 3, 'cylinder': 2, 'shuttlecock': 2, 'mesh': 1}


@dataclass(frozen=True)
class ObjectSpec:
    """One rigid object of a scene; its origin is its geometric centre.

    ``size`` in metres: sphere ``(radius,)``; box ``(x, y, z)`` edge lengths; cylinder ``(radius, height)`` along z;
    shuttlecock ``(length, skirt radius)`` with the cork at +x; mesh ``(scale,)``.
    ``restitution`` is the ratio of rebound to impact speed on the floor, ``body_restitution`` on the robot.
    ``rolling_rate`` (1/s) is the rate at which rolling speed decays; ``drag_length`` (m) the distance
    ``L = 2 m / (rho C_d A)`` of quadratic drag ``a = -|v| v / L`` (terminal speed ``sqrt(g L)``; 0: no drag).
    ``fixed`` objects are part of the world (a hoop, a table), or of the robot's body ``attached_to`` (a racket in the
    hand); ``pos`` and ``quat`` are then relative to that body.
    """

    name: str
    shape: Shape
    size: tuple[float, ...]
    mass: float = 0.5
    restitution: float = 0.5
    body_restitution: float = 0.3
    friction: float = 0.7
    rolling_rate: float = 0.0
    drag_length: float = 0.0
    fixed: bool = False
    attached_to: str = ''
    pos: tuple[float, float, float] = (3.0, 0.0, 0.5)
    quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    mesh: Path | None = None
    rgba: tuple[float, float, float, float] = (0.9, 0.5, 0.1, 1.0)

    def __post_init__(self) -> None:
        if len(self.size) != _NUM_SIZES[self.shape] or min(self.size) <= 0:
            raise ValueError(
                f'size is {list(self.size)}; expected {_NUM_SIZES[self.shape]} positive number(s) '
                f'for a {self.shape}: {_SIZES[self.shape]}.'
            )
        if self.shape == 'mesh' and self.mesh is None:
            raise ValueError('mesh is missing; expected the path of a mesh file.')
        if self.attached_to and not self.fixed:
            raise ValueError(f'attached_to is {self.attached_to!r} but fixed is false; expected fixed: true.')
        if self.mass <= 0:
            raise ValueError(f'mass is {self.mass}; expected a positive number of kilograms.')
        for field in ('restitution', 'body_restitution'):
            if not 0.0 <= getattr(self, field) <= 0.95:
                raise ValueError(f'{field} is {getattr(self, field)}; expected 0 to 0.95.')
        for field in ('friction', 'rolling_rate', 'drag_length'):
            if getattr(self, field) < 0:
                raise ValueError(f'{field} is {getattr(self, field)}; expected 0 or more.')
        if not self.name or not self.name.replace('_', '').isalnum():
            raise ValueError(f'name is {self.name!r}; expected letters, digits and underscores.')

    def bounding_radius(self) -> float:
        """Return the radius (m) of a sphere around the origin that holds the object (0 for a mesh)."""
        if self.shape == 'sphere':
            return self.size[0]
        if self.shape == 'box':
            return 0.5 * sum(s * s for s in self.size) ** 0.5
        if self.shape == 'cylinder':
            return (self.size[0] ** 2 + 0.25 * self.size[1] ** 2) ** 0.5
        if self.shape == 'shuttlecock':
            return max(self.size)
        return 0.0
