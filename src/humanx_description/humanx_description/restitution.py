"""Bouncing in MuJoCo: contact parameters that give a wanted coefficient of restitution.

MuJoCo has no restitution field. A contact with ``solref = (-k, -b)`` is a spring-damper in acceleration space,
so that ``b = 2 zeta sqrt(k)`` with ``zeta = -ln e / sqrt(pi^2 + ln^2 e)`` would bounce with ``e`` in
continuous time. At a finite time step it does not quite, so ``zeta`` is calibrated by a drop test in MuJoCo itself.
"""

import math
from functools import lru_cache

import mujoco
import numpy as np

# Contact impedance of objects: hard, and nearly independent of penetration, so that the bounce is too.
OBJECT_SOLIMP = (0.95, 0.99, 0.001, 0.5, 2.0)
_MAX_STIFFNESS = 40_000.0  # 1/s^2
_STABLE = 0.5  # dt * sqrt(k): above it a ball gains energy


def contact_stiffness(timestep: float) -> float:
    """Return the largest stiffness k (1/s^2) that stays stable at this time step (s), at most 40,000."""
    return min(_MAX_STIFFNESS, (_STABLE / timestep) ** 2)


def damping_ratio(restitution: float) -> float:
    """Return the damping ratio of a spring-damper that bounces with this restitution in continuous time."""
    if restitution <= 0.0:
        return 1.0
    log = math.log(restitution)
    return -log / math.sqrt(math.pi**2 + log**2)


def drop_test(solref: tuple[float, float], timestep: float, speed: float = 3.0) -> float:
    """Return the measured restitution of a 0.11 m ball that hits the floor at ``speed`` (m/s)."""
    spec = mujoco.MjSpec()
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.worldbody.add_geom(name='floor', type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.01])
    body = spec.worldbody.add_body(pos=[0, 0, 0.12])
    body.add_freejoint()
    body.add_geom(name='ball', type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.11, 0, 0], mass=0.4)
    spec.add_pair(
        geomname1='ball',
        geomname2='floor',
        condim=3,
        solref=list(solref),
        solimp=list(OBJECT_SOLIMP),
    )
    model = spec.compile()
    data = mujoco.MjData(model)
    rebounds = []
    # The result depends on where between two steps the ball touches: average over the phase.
    for phase in np.linspace(0.0, 1.0, 8, endpoint=False):
        mujoco.mj_resetData(model, data)
        data.qpos[2] = 0.11 + 1e-4 + phase * speed * timestep
        data.qvel[2] = -speed
        best = 0.0
        impact = speed
        for _ in range(int(0.25 / timestep)):
            if data.ncon == 0 and data.qvel[2] < 0:
                impact = -data.qvel[2]
            mujoco.mj_step(model, data)
            best = max(best, data.qvel[2])
            if best > 0 and data.ncon == 0:
                break
        rebounds.append(best / impact)
    return float(np.mean(rebounds))


@lru_cache(maxsize=256)
def bounce_solref(restitution: float, timestep: float) -> tuple[float, float]:
    """Return ``solref`` (-k, -b) whose drop test at this time step gives the wanted restitution.

    Bisection over the damping ratio up to 0.9, where the bounce is smallest (0.13 at 5 ms); beyond it a large
    time step makes the damper bounce again. Smaller wanted values get that smallest bounce.
    """
    stiffness = contact_stiffness(timestep)
    root = math.sqrt(stiffness)

    def solref(zeta: float) -> tuple[float, float]:
        return (-stiffness, -2.0 * zeta * root)

    low, high = 0.0, 0.9
    if restitution <= drop_test(solref(high), timestep):
        return solref(high)
    for _ in range(14):
        middle = 0.5 * (low + high)
        if drop_test(solref(middle), timestep) > restitution:
            low = middle
        else:
            high = middle
    return solref(0.5 * (low + high))
