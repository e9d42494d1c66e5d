"""What one clip is made from: a recipe with every varied number fixed. Draws are made here, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from humanx_description.objects import ObjectSpec
from humanx_training.xgen.recipe import Arrival, Augment, ContactSpec, Recipe, Release


class Infeasible(Exception):
    """A draw that no clip can be made of; the message says why. It is reported and redrawn."""


@dataclass(frozen=True)
class ClipPlan:
    """All numbers of one clip."""

    spec: ObjectSpec
    contacts: tuple[ContactSpec, ...]
    arrival: Arrival
    release: Release
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)  # m, heading frame, of the contact path
    path_scale: float = 1.0
    start_place: tuple[float, float] | None = None  # m, object's place seen from the robot's start, heading frame
    release_factor: float = 1.0  # on the release speed
    join: float = 0.08
    draws: dict[str, Any] = field(default_factory=dict)  # for the clip's provenance


def nominal(recipe: Recipe, spec: ObjectSpec) -> ClipPlan:
    """Return the plan that the skill file itself describes."""
    return ClipPlan(spec, recipe.contacts, recipe.arrival, recipe.release, recipe.offset, join=recipe.join)


def draw(recipe: Recipe, spec: ObjectSpec, rng: np.random.Generator, spares: tuple[ObjectSpec, ...] = ()) -> ClipPlan:
    """Return a plan with every range of ``augment`` drawn uniformly."""
    ranges: Augment = recipe.augment
    chosen = spec
    replaced = ''
    if spares and rng.uniform() < len(spares) / (1 + len(spares)):
        spare = spares[int(rng.integers(len(spares)))]
        chosen, replaced = replace(spare, name=spec.name), spare.name
    size = float(rng.uniform(*ranges.size))
    # A ball of another size keeps its material: mass follows the surface, not the volume.
    chosen = replace(chosen, size=tuple(s * size for s in chosen.size), mass=chosen.mass * size**2)
    arrival = replace(
        recipe.arrival,
        speed=recipe.arrival.speed * float(rng.uniform(*ranges.arrival_speed)),
        azimuth_deg=recipe.arrival.azimuth_deg + float(rng.uniform(*ranges.arrival_azimuth_deg)),
        fall_deg=recipe.arrival.fall_deg + float(rng.uniform(*ranges.arrival_fall_deg)),
    )
    factor = float(rng.uniform(*ranges.release_speed))
    shift = [float(rng.uniform(*r)) for r in ranges.target]
    x, y, z = (a + b for a, b in zip(recipe.release.target, shift))
    release = replace(
        recipe.release,
        azimuth_deg=recipe.release.azimuth_deg + float(rng.uniform(*ranges.release_azimuth_deg)),
        target=(x, y, z),
    )
    place = None
    if ranges.start_region > 0:
        # Uniform over the area of the half-circle ahead, not nearer than the robot can stand off.
        radius = float(np.sqrt(rng.uniform(0.5**2, ranges.start_region**2)))
        angle = float(rng.uniform(-0.5 * np.pi, 0.5 * np.pi))
        place = (radius * np.cos(angle), radius * np.sin(angle))
    x, y, z = (o + float(rng.uniform(*r)) for o, r in zip(recipe.offset, ranges.offset))
    offset = (x, y, z)
    scale = float(rng.uniform(*ranges.path_scale))
    draws = {
        'size': size, 'arrival_speed': arrival.speed, 'arrival_azimuth_deg': arrival.azimuth_deg,
        'arrival_fall_deg': arrival.fall_deg,
        'release_speed_factor': factor, 'release_azimuth_deg': release.azimuth_deg,
        'target_shift': shift, 'offset': list(offset), 'path_scale': scale, 'start_place': place,
        'object': chosen.shape, 'replaced_by': replaced,
    }
    return ClipPlan(chosen, recipe.contacts, arrival, release, offset, scale, place, factor, recipe.join, draws)
