"""Sampling-based trajectory optimisation over a feedback law (MPPI with an elite, as in CEM).

For motions that the deterministic passes of :mod:`.feasible` do not make feasible, and for outcomes that a tracking
cost cannot express (a ball's speed): smooth offsets to the servo targets are sampled on knots, rolled out over a
horizon under the feedback, weighted by their cost; the weighted *mean* is executed for a few steps, then everything is
planned again from there. Sampling noise does not go into the motion, only what its average found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
import torch

from humanx_description.robot import ACTION_SCALE, NUM_JOINTS
from humanx_training.xmimic.mpc.lqr import Feedback
from humanx_training.xmimic.sim import MujocoSimulator, SimSpec
from humanx_training.xmimic.sim.buffers import Buffers

# (step, state of N samples, offset (N, 29) in units of action) -> cost (N,); infinite: the robot fell.
Cost = Callable[[int, Buffers, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class MppiSettings:
    """``sigma`` in units of action; ``horizon``, ``execute`` and ``knot`` in control steps."""

    samples: int = 128
    iterations: int = 3
    horizon: int = 50
    execute: int = 10
    knot: int = 8
    sigma: float = 0.4
    shrink: float = 0.6  # of sigma from one iteration to the next
    elite: float = 1 / 12
    keep: float = 0.95  # of the plan when moving on
    substeps: int = 2

    def __post_init__(self) -> None:
        for name in ('samples', 'iterations', 'horizon', 'execute', 'knot', 'substeps'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}; expected 1 or more.')


@dataclass(frozen=True)
class MppiResult:
    """``qpos`` (L+1, nq), ``qvel`` (L+1, nv), ``target`` (L, 29), ``cost`` (L,), ``contact`` (L, P) of what was
    executed; ``complete`` is False when every sample failed and the search stopped there; ``steps`` counts simulated
    control steps."""

    qpos: np.ndarray
    qvel: np.ndarray
    target: np.ndarray
    cost: np.ndarray
    contact: np.ndarray
    complete: bool
    steps: int


def knot_matrix(horizon: int, knot: int) -> np.ndarray:
    """Return (horizon, K): piecewise linear weights of knots every ``knot`` steps."""
    count = horizon // knot + 2
    place = np.arange(horizon) / knot
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(count)))


def optimise(
    model: mujoco.MjModel, law: Feedback, cost: Cost, qpos: np.ndarray, qvel: np.ndarray, *,
    settings: MppiSettings | None = None, seed: int = 0, first: int = 0, last: int | None = None,
    threads: int | None = None, spec: SimSpec | None = None,
) -> MppiResult:
    """Return the best motion found from state ``qpos`` (nq,), ``qvel`` (nv,) at frame ``first`` to ``last`` of ``law``.

    ``model`` may hold objects after the robot; ``spec`` says which bodies and contacts the cost sees. Equal seeds give
    equal results.
    """
    s = settings or MppiSettings()
    rng = np.random.default_rng(seed)
    sim = MujocoSimulator(model, s.samples, spec, threads=threads)
    basis = knot_matrix(s.horizon, s.knot)
    project = np.linalg.pinv(basis)
    mean = np.zeros((basis.shape[1], NUM_JOINTS))
    last = len(law) - 1 if last is None else last
    states, rates, targets, costs, contacts = [qpos.copy()], [qvel.copy()], [], [], []
    previous = law.target[max(first - 1, 0)].copy()
    steps, complete, frame = 0, True, first
    while frame < last:
        sigma = s.sigma
        for _ in range(s.iterations):
            noise = rng.normal(0.0, sigma, (s.samples, *mean.shape))
            noise[0] = 0.0
            total, _trace = _rollouts(sim, law, cost, qpos, qvel, previous, basis @ (mean + noise), frame, s.horizon, s)
            steps += s.samples * s.horizon
            order = np.argsort(total)[: max(8, int(s.elite * s.samples))]
            if not np.isfinite(total[order[0]]):
                complete = False
                break
            best = total[order][np.isfinite(total[order])]
            weight = np.exp(-(best - best[0]) / max(1e-6, 0.5 * best.std()))
            mean = mean + np.einsum('n,nkj->kj', weight / weight.sum(), noise[order[: len(best)]])
            sigma *= s.shrink
        if not complete:
            break
        count = min(s.execute, last - frame)
        plan = np.broadcast_to(basis @ mean, (s.samples, s.horizon, NUM_JOINTS))
        _total, trace = _rollouts(sim, law, cost, qpos, qvel, previous, plan, frame, count, s)
        for state, rate, target, value, touch in trace:
            states.append(state)
            rates.append(rate)
            targets.append(target)
            costs.append(value)
            contacts.append(touch)
        qpos, qvel, previous = states[-1], rates[-1], targets[-1]
        frame += count
        shifted = np.concatenate([(basis @ mean)[count:], np.repeat((basis @ mean)[-1:], count, 0)])
        mean = s.keep * (project @ shifted)
    sim.close()
    return MppiResult(
        np.array(states), np.array(rates), np.array(targets), np.array(costs), np.array(contacts), complete, steps
    )  # fmt: skip


def _rollouts(
    sim: MujocoSimulator, law: Feedback, cost: Cost, qpos: np.ndarray, qvel: np.ndarray, previous: np.ndarray,
    offset: np.ndarray, frame: int, length: int, s: MppiSettings,
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]]]:
    """Return the total cost (N,) of offsets (N, H, 29) and the trace of the first sample."""
    n = s.samples
    sim.set_state(np.tile(qpos, (n, 1)), np.tile(qvel, (n, 1)))
    before = np.tile(previous, (n, 1))
    total = np.zeros(n)
    trace = []
    b = sim.buffers
    for h in range(length):
        index = min(frame + h, len(law) - 1)
        before = law(index, b.qpos[:, :36], b.qvel[:, :35], before) + ACTION_SCALE * offset[:, h]
        sim.step(torch.from_numpy(before), s.substeps)
        value = np.where(b.finite, cost(frame + h + 1, b, offset[:, h]), np.inf)
        total += value
        trace.append((b.qpos[0].copy(), b.qvel[0].copy(), before[0].copy(), float(value[0]), b.contact[0].copy()))
    return total, trace
