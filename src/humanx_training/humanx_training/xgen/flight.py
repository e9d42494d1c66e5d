"""Non-contact phases: an object that nobody touches, simulated in MuJoCo.

After release the object is played forward. Before contact it is played backward in time: velocity reversed, drag and
rolling resistance with their sign inverted, a bounce with the inverse of its restitution (the paper, section III:
inverted damping). A backward run is only a first guess, since friction in a bounce cannot be inverted; the start
velocity that it gives is then corrected by playing *forward* until the object arrives where it must (:func:`arrive`).
So every path that leaves this module is one that MuJoCo plays forward.

Positions in m, velocities in m/s in the world, angular velocities in rad/s in the world, quaternions w first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mujoco
import numpy as np

from humanx_description.objects import ObjectSpec
from humanx_description.scene import apply_drag, drag_table, object_scene
from humanx_training import rotation

TIMESTEP = 0.001  # s
GRAVITY = 9.81
_BOUNCE_SPEED = 0.3  # m/s: a slower approach to the floor is rolling, not a bounce
# Steps of the difference quotients (m, m/s): wide, to average over where between two steps a bounce falls, and narrow.
_DIFFERENCE = (0.02, 1e-4)
# m of flight in which the tangent of half the angle between a shuttlecock's axis and its velocity falls by e. After a
# stroke at 18.6 and 10.4 m/s the cork leads after 15 and 42 ms (Cohen et al. 2015, "The physics of badminton", New J.
# Phys. 17 063001, fig. 3); the small oscillation that follows there is left out.
_TURN_LENGTH = 0.12
_CORK = np.array([1.0, 0.0, 0.0])  # where a shuttlecock's cork is, in its frame
_LANDING_HEIGHT = 0.12  # m
_FARTHEST_TURN = np.deg2rad(175.0)  # exactly backward is an equilibrium that nothing rests in


@dataclass(frozen=True)
class BodyState:
    """The state of one free object."""

    pos: np.ndarray  # (3,) m
    quat: np.ndarray  # (4,)
    vel: np.ndarray  # (3,) m/s, world
    ang_vel: np.ndarray  # (3,) rad/s, world


@dataclass(frozen=True)
class Path:
    """``T`` samples of an object's motion at ``fps``; the first is the start itself."""

    fps: float
    pos: np.ndarray  # (T, 3)
    quat: np.ndarray  # (T, 4)
    vel: np.ndarray  # (T, 3)
    ang_vel: np.ndarray  # (T, 3)

    def state(self, index: int) -> BodyState:
        """Return one sample as a state."""
        return BodyState(self.pos[index], self.quat[index], self.vel[index], self.ang_vel[index])

    def reversed(self) -> Path:
        """Return the same path with time running the other way."""
        return Path(self.fps, self.pos[::-1], self.quat[::-1], -self.vel[::-1], -self.ang_vel[::-1])


@dataclass(frozen=True)
class Arrival:
    """A forward-played path that ends at a wanted place, and how well it does."""

    path: Path
    pos_error: float  # m, of the last sample
    vel_error: float  # m/s, arrival velocity against the wanted one


class World:
    """The floor and one object, ready to be simulated again and again."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = replace(spec, fixed=False, pos=(0.0, 0.0, 1.0), quat=(1.0, 0.0, 0.0, 0.0))
        self._model = object_scene([self.spec], timestep=TIMESTEP)
        # Backward in time rolling resistance feeds energy, and the floor takes none: bounces are events there.
        self._backward = object_scene([replace(self.spec, restitution=0.0)], timestep=TIMESTEP)
        self._backward.dof_damping[:] *= -1.0
        self._data = mujoco.MjData(self._model)
        self._drag = drag_table(self._model, [self.spec])
        self._landed = np.inf  # s after the start at which a shuttlecock came near the floor

    def forward(self, start: BodyState, frames: int, fps: float) -> Path:
        """Play ``frames`` samples (the start included) at ``fps``, with drag, bounces and rolling."""
        path = self._run(self._model, start, frames, fps, backward=False)
        return _into_the_wind(path, start.quat, self._landed) if self.spec.shape == 'shuttlecock' else path

    def backward(self, end: BodyState, frames: int, fps: float) -> Path:
        """Return ``frames`` samples whose *last* is ``end``, by simulating backward in time."""
        start = replace(end, vel=-end.vel, ang_vel=-end.ang_vel)
        path = self._run(self._backward, start, frames, fps, backward=True).reversed()
        if self.spec.shape != 'shuttlecock' or np.linalg.norm(path.vel[0]) < 1e-3:
            return path
        # Long before it arrives a shuttlecock flies cork ahead.
        return _into_the_wind(path, rotation.between(_CORK, path.vel[0]), np.inf)

    def _run(self, model: mujoco.MjModel, start: BodyState, frames: int, fps: float, *, backward: bool) -> Path:
        data = self._data
        mujoco.mj_resetData(model, data)
        data.qpos[:3], data.qpos[3:7] = start.pos, start.quat
        data.qvel[:3] = start.vel
        data.qvel[3:6] = rotation.rotate_inverse(start.quat, start.ang_vel)
        self._landed = np.inf
        time, row = 0.0, np.concatenate([data.qpos, data.qvel])
        times, rows = [time], [row]
        last = (frames - 1) / fps
        while time < last - 1e-9:
            time += self._step(model, data, backward)
            if self.spec.shape == 'shuttlecock' and data.qpos[2] < _LANDING_HEIGHT < rows[-1][2] and not backward:
                # Until here only its centre was simulated; it lands as it flies, cork ahead.
                self._landed = min(self._landed, time)
                data.qpos[3:7], data.qvel[3:6] = rotation.between(_CORK, data.qvel[:3]), 0.0
            times.append(time)
            rows.append(np.concatenate([data.qpos, data.qvel]))
        # Steps are a millisecond or less: straight lines between them are exact to a micrometre.
        known, at = np.array(rows), np.arange(frames) / fps
        table = np.stack([np.interp(at, times, known[:, c]) for c in range(known.shape[1])], axis=1)
        quat = rotation.normalise(table[:, 3:7])
        return Path(fps, table[:, :3], quat, table[:, 7:10], rotation.rotate(quat, table[:, 10:13]))

    def _step(self, model: mujoco.MjModel, data: mujoco.MjData, backward: bool) -> float:
        """Advance by up to a time step; return the seconds that passed.

        The step before a bounce is shortened to end half a step above the floor. Otherwise the rebound would depend on
        where between two steps the ball happens to touch (by 3 % of its speed), and no start velocity could be found
        that arrives at a given point.
        """
        if self._drag:
            apply_drag(model, data, self._drag)
            if backward:
                data.xfrc_applied *= -1.0
        dt, height, fall = TIMESTEP, data.qpos[2] - self.spec.bounding_radius(), -data.qvel[2]
        if fall > _BOUNCE_SPEED and height > 0.0:
            if backward and height < fall * dt:
                data.qvel[2] = fall / max(self.spec.restitution, 0.2)
            elif 0.5 * fall * dt < height < 1.5 * fall * dt:
                dt = max(height / fall - 0.5 * dt, 0.05 * dt)
        model.opt.timestep = dt
        mujoco.mj_step(model, data)
        return dt


def _into_the_wind(path: Path, quat: np.ndarray, landed: float) -> Path:
    """Return a shuttlecock's path with its cork turning into the velocity, from the orientation ``quat`` (4,) on.

    The skirt's drag acts behind the centre of mass, which is in the cork. The path of the centre is not changed: its
    drag is taken as that of a shuttlecock that flies straight. From ``landed`` (s) on the simulated turning is kept.
    """
    out = np.empty_like(path.quat)
    out[0] = here = np.asarray(quat, dtype=float)
    stop = int(min(len(out), np.ceil(landed * path.fps) + 1))
    for t in range(1, stop):
        axis = rotation.rotate(here, _CORK)
        speed = float(np.linalg.norm(path.vel[t]))
        if speed > 0.3:
            wind = path.vel[t] / speed
            angle = float(np.arccos(np.clip(axis @ wind, -1.0, 1.0)))
            across = np.cross(axis, wind)
            if np.linalg.norm(across) < 1e-6:
                across = np.cross(axis, [0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
            across = across / np.linalg.norm(across)
            left = np.tan(0.5 * min(angle, _FARTHEST_TURN)) * np.exp(-speed / path.fps / _TURN_LENGTH)
            here = rotation.multiply(rotation.exp((angle - 2.0 * np.arctan(left)) * across), here)
        out[t] = here
    if stop < len(out):
        # The simulation knows nothing of the roll about the axis: carry it over.
        roll = rotation.multiply(rotation.conjugate(path.quat[stop - 1]), out[stop - 1])
        out[stop:] = rotation.multiply(path.quat[stop:], roll)
    quats = rotation.continuous(rotation.normalise(out))
    body = rotation.angular_velocity_body(quats, path.fps)
    return replace(path, quat=quats, ang_vel=rotation.rotate(quats, body))


def arrive(
    world: World,
    end: BodyState,
    frames: int,
    fps: float,
    *,
    start_pos: np.ndarray | None = None,
    guess: np.ndarray | None = None,
    rolling: bool = False,
    iterations: int = 14,
    tolerance: float = 2e-4,
) -> Arrival:
    """Return the forward-played path of ``frames`` samples whose last lies at ``end.pos``.

    Without ``start_pos`` the start comes from the backward run from ``end`` (so it also arrives with ``end.vel``, as
    far as bounces allow); with it, the object leaves ``start_pos`` and its velocity is whatever gets it there in time.
    ``guess`` (3,) is a first start velocity. ``rolling`` keeps the start on the floor, rolling without slip. The start
    velocity is found by Gauss-Newton on the arrival point (derivatives by differences of forward runs).
    """
    if start_pos is None:
        start = world.backward(end, frames, fps).state(0)
    else:
        duration = (frames - 1) / fps
        if guess is None:
            guess = (end.pos - start_pos) / duration + np.array([0.0, 0.0, 0.5 * GRAVITY * duration])
        start = BodyState(np.asarray(start_pos, float), end.quat, np.asarray(guess, float), np.zeros(3))
    radius = world.spec.bounding_radius()
    axes = [0, 1] if rolling else [0, 1, 2]
    # The unknowns: the start velocity, and the start position where nobody gave one (a bounce can make the arrival
    # height
    # insensitive to the velocity; the smallest change of both, 1 m against 1 m/s, solves it).
    free = [*axes] if start_pos is not None else [*axes, *(3 + a for a in axes)]
    if rolling:
        start = replace(start, pos=np.array([*start.pos[:2], radius]), vel=start.vel * np.array([1.0, 1.0, 0.0]))

    def play(change: np.ndarray) -> Path:
        velocity = start.vel + change[:3]
        spin = np.cross([0.0, 0.0, 1.0], velocity) / radius if rolling else start.ang_vel
        return world.forward(replace(start, pos=start.pos + change[3:], vel=velocity, ang_vel=spin), frames, fps)

    def miss(path: Path) -> float:
        return float(np.linalg.norm((path.pos[-1] - end.pos)[axes]))

    change = np.zeros(6)
    path = play(change)
    best = miss(path)
    jitter = np.linspace(-0.06, 0.06, 25)
    for iteration in range(iterations):
        if best < tolerance:
            break
        jacobian = np.empty((len(axes), len(free)))
        for column, index in enumerate(free):
            step = np.zeros(6)
            step[index] = _DIFFERENCE[iteration % 2]
            jacobian[:, column] = (play(change + step).pos[-1] - path.pos[-1])[axes] / step[index]
        step = np.zeros(6)
        step[free] = -np.linalg.lstsq(jacobian, (path.pos[-1] - end.pos)[axes], rcond=1e-3)[0]
        trials = [change + scale * step for scale in (1.0, 0.5, 0.2)]
        if best > 10 * tolerance and iteration % 3 == 2 and not rolling:
            # Where a bounce falls between two steps makes the arrival jump by centimetres: look on other branches.
            trials += [change + np.array([0, 0, dv, 0, 0, 0]) for dv in jitter]
        for trial in trials:
            result = play(trial)
            if miss(result) < best:
                best, path, change = miss(result), result, trial
    return Arrival(path, best, float(np.linalg.norm(path.vel[-1] - end.vel)))


def launch_velocity(
    start: np.ndarray, target: np.ndarray, *, apex: float | None = None, speed: float | None = None
) -> np.ndarray:
    """Return the drag-free start velocity (3,) m/s that leads from ``start`` through ``target``.

    ``apex``: the path's highest point (m above the floor), reached before the target. ``speed``: the horizontal speed
    (m/s). At most one of them; with neither, the slowest throw that gets there. Raises ``ValueError`` when the apex
    lies below either end.
    """
    if apex is not None and speed is not None:
        raise ValueError('expected at most one of apex and speed.')
    delta = np.asarray(target, float) - start
    if apex is not None:
        if apex < max(start[2], target[2]):
            raise ValueError(f'apex is {apex:.2f} m; expected it above both ends of the path.')
        up = np.sqrt(2 * GRAVITY * (apex - start[2]))
        duration = up / GRAVITY + np.sqrt(2 * (apex - target[2]) / GRAVITY)
    elif speed is not None:
        duration = float(np.linalg.norm(delta[:2])) / speed
    else:
        duration = float(np.sqrt(2 * np.linalg.norm(delta) / GRAVITY))
    return np.array([delta[0] / duration, delta[1] / duration, delta[2] / duration + 0.5 * GRAVITY * duration])
