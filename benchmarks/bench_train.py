"""Speed of training: physics alone, the environment, the whole PPO loop; on the CPU mjlab beside them.

    python benchmarks/bench_train.py --json out/bench/train.json
    python benchmarks/bench_train.py --mjlab-python /path/to/venv/bin/python   # a Python in which mjlab 1.6.0 runs
    python benchmarks/bench_train.py --sim mujoco_warp --envs 16384            # on a GPU

G1 + ball + floor, 5 ms, implicitfast, Newton, self-collision on; policy at 100 Hz over 2 physics steps; the default
configuration of `humanx train teacher` (512 environments, actor and critic 256-128, 24 steps, 3 epochs of 4
mini-batches, everything randomised). `rollout` is mujoco.rollout called for the same 2 steps at a time.

The share `elsewhere` is the wall time of PPO iterations outside MuJoCo and matrix products. The products' time comes
from torch's profiler over three more iterations; the rest from iterations without it, since it slows small operations.

mjlab runs its own G1 velocity task (no ball) on mujoco_warp's CPU device at the same 100 Hz (2 x 5 ms), and its own PPO
runner with the same network, steps, epochs and mini-batches. Simulation alone is a bare step of its simulator.

Status 1 below a floor: 33,000 physics steps/s, 5,000 PPO samples/s, 10 times mjlab in all three, 25 % elsewhere;
`--no-floors` only measures. With `--sim mujoco_warp` there are no floors, no rollout, no shares (the host only queues
what the GPU does) and no mjlab, but the seconds until everything is compiled and the memory taken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mujoco
import mujoco.rollout
import numpy as np
import torch

from humanx_description import robot
from humanx_description.objects import ObjectSpec
from humanx_description.scene import default_qpos, scene
from humanx_training.clip import InteractionClip, shape_of
from humanx_training.xmimic.clip_set import make_clip_set
from humanx_training.xmimic.config import build
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.sim import Simulator, make_simulator
from humanx_training.xmimic.trainer import Trainer, one_torch_thread

FLOORS = {
    'physics_steps_per_s': 33_000, 'ppo_samples_per_s': 5_000, 'simulation_times_mjlab': 10, 'env_times_mjlab': 10,
    'ppo_times_mjlab': 10, 'elsewhere_share': 0.25,
}  # fmt: skip
SUBSTEPS = 2
BALL = ObjectSpec('ball', 'sphere', (0.11,), mass=0.43, rolling_rate=0.1)
_PRODUCTS = ('aten::addmm', 'aten::mm', 'aten::bmm', 'aten::baddbmm', 'aten::addmv')
# Environment steps per second at 100 Hz: bare simulation, environment, whole PPO loop.
_MJLAB = """
import json, sys, time
from dataclasses import asdict
import torch
from mjlab.envs import ManagerBasedRlEnv
from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
from mjlab.tasks.registry import load_env_cfg, load_rl_cfg
import mjlab.tasks
worlds, hidden, steps, epochs, batches = json.loads(sys.argv[1])
cfg = load_env_cfg('Mjlab-Velocity-Flat-Unitree-G1')
cfg.scene.num_envs, cfg.decimation = worlds, 2
assert abs(cfg.sim.mujoco.timestep - 0.005) < 1e-9
env = ManagerBasedRlEnv(cfg, device='cpu')
env.reset()
action = torch.zeros(worlds, 29)

def rate(step, count, each):
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return count * each / (time.perf_counter() - begin)

for _ in range(3):
    env.step(action)
result = {'env': rate(lambda: env.step(action), 20, worlds), 'simulation': rate(env.sim.step, 40, worlds / 2)}
rl = asdict(load_rl_cfg('Mjlab-Velocity-Flat-Unitree-G1'))
rl['logger'], rl['num_steps_per_env'] = 'tensorboard', steps
rl['actor']['hidden_dims'] = rl['critic']['hidden_dims'] = tuple(hidden)
rl['algorithm']['num_learning_epochs'], rl['algorithm']['num_mini_batches'] = epochs, batches
runner = MjlabOnPolicyRunner(RslRlVecEnvWrapper(env), rl, None, 'cpu')
runner.learn(1)
result['ppo'] = rate(lambda: runner.learn(1), 2, worlds * steps)
print('RESULT', json.dumps(result))
"""


def clip() -> InteractionClip:
    """Return a stance of 3 s with a ball that rolls by."""
    frames = 300
    still = np.tile([1.0, 0.0, 0.0, 0.0], (frames, 1))
    position = np.tile([1.5, 0.4, 0.11], (frames, 1))
    position[:, 0] -= 0.005 * np.arange(frames)
    return InteractionClip(
        100.0, np.tile([0.0, 0.0, 0.745], (frames, 1)), still, np.tile(robot.DEFAULT_JOINT_POS, (frames, 1)), 'ball',
        shape_of(BALL), position, still, np.zeros((frames, 2), bool), robot.FOOT_BODIES,
    )


def wait(sim: Simulator) -> None:
    """Return once the simulator's device has done what it was told."""
    if sim.device.type == 'cuda':
        torch.cuda.synchronize(sim.device)


def physics(name: str, envs: int, threads: int | None = None, seconds: float = 2.0) -> float:
    """Return physics steps per second, 2 at a time, of standing robots."""
    model = scene([BALL])
    sim = make_simulator(name, model, envs, **({'threads': threads} if name == 'mujoco' else {}))
    qpos = torch.as_tensor(default_qpos([BALL])).repeat(envs, 1).to(sim.qpos)
    target = torch.as_tensor(robot.DEFAULT_JOINT_POS.copy()).repeat(envs, 1).to(sim.qpos)
    still = torch.zeros(envs, model.nv).to(sim.qpos)
    sim.set_state(qpos, still)
    sim.step(target, 2)
    wait(sim)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        if count % 50 == 49:
            sim.set_state(qpos, still)
            wait(sim)
        sim.step(target, 2)
        count += 1
    wait(sim)
    rate = 2 * envs * count / (time.perf_counter() - begin)
    sim.close()
    return rate


def rollout(envs: int, threads: int, seconds: float = 2.0) -> float:
    """Return physics steps per second of mujoco.rollout, called for 2 steps at a time."""
    model = scene([BALL])
    datas = [mujoco.MjData(model) for _ in range(threads)]
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    state = np.zeros((envs, size))
    state[:, 1 : 1 + model.nq] = default_qpos([BALL])
    control = np.tile(robot.DEFAULT_JOINT_POS, (envs, 2, 1))
    start, count, begin = state.copy(), 0, time.perf_counter()
    with mujoco.rollout.Rollout(nthread=threads) as engine:
        while time.perf_counter() - begin < seconds:
            states, _ = engine.rollout(model, datas, start, control)
            start = state.copy() if count % 50 == 49 else states[:, -1]
            count += 1
    return 2 * envs * count / (time.perf_counter() - begin)


def environment(name: str, envs: int, steps: int = 60) -> tuple[float, float]:
    """Return environment steps per second and the share of the physics in them (0: not known)."""
    config = build({'env': {'num_envs': envs}}).env
    env = HumanXEnv(make_clip_set([clip()], device(name)), config, simulator=name, groups=('policy', 'privileged'))
    zero = torch.zeros(envs, 29, device=env.device)
    with one_torch_thread():
        for _ in range(5):
            env.step(zero)
        wait(env.sim)
        before, begin = getattr(env.sim, 'physics_seconds', 0.0), time.perf_counter()
        for _ in range(steps):
            env.step(zero)
        wait(env.sim)
        seconds = time.perf_counter() - begin
    share = (getattr(env.sim, 'physics_seconds', 0.0) - before) / seconds
    env.close()
    return envs * steps / seconds, share


def device(name: str) -> str:
    """Return where a simulator's clips belong."""
    return 'cuda:0' if name == 'mujoco_warp' and torch.cuda.is_available() else 'cpu'


def ppo(name: str, envs: int, iterations: int) -> dict[str, float]:
    """Return samples per second of the whole loop (teacher) and, on the CPU, where the time goes."""
    config = build({'env': {'num_envs': envs}, 'iterations': iterations, 'checkpoint_every': 10_000})
    env = HumanXEnv(make_clip_set([clip()], device(name)), config.env, simulator=name, groups=('privileged',))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(env, config, Path(folder), quiet=True)
        history = trainer.run()
        measured = history[1:]
        seconds = sum(h['time/collect'] + h['time/learn'] for h in measured)
        figures = {'ppo_samples_per_s': envs * config.ppo.steps * len(measured) / seconds}
        # Medians: a neighbour on the host slows single iterations.
        iteration = statistics.median(h['time/collect'] + h['time/learn'] for h in measured)
        figures['learn_share'] = statistics.median(h['time/learn'] for h in measured) / iteration
        if env.device.type == 'cpu' and name == 'mujoco':
            physics_share = statistics.median(h['time/physics'] for h in measured) / iteration
            products_share = _products(trainer, env) / iteration
            figures |= {
                'physics_share': physics_share, 'products_share': products_share,
                'elsewhere_share': max(0.0, 1.0 - physics_share - products_share),
            }  # fmt: skip
    env.close()
    return figures


def _products(trainer: Trainer, env: HumanXEnv) -> float:
    """Return the seconds of matrix products in one iteration, from torch's profiler."""
    obs, products = env.observe(), []
    for _ in range(3):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            obs, _ = trainer._iterate(obs)
        spent = sum(e.self_cpu_time_total for e in profile.key_averages() if e.key in _PRODUCTS)
        products.append(spent * 1e-6)
    return statistics.median(products)


def mjlab(python: str, worlds: int) -> dict[str, float] | None:
    """Return mjlab's environment steps per second on this CPU, None where it does not run."""
    p = build().ppo
    settings = json.dumps([worlds, list(p.hidden), p.steps, p.epochs, p.mini_batches])
    result = subprocess.run([python, '-c', _MJLAB, settings], capture_output=True, text=True, timeout=1800)
    for line in result.stdout.splitlines():
        if line.startswith('RESULT'):
            return json.loads(line[6:])
    print(f'mjlab did not run: {result.stderr.strip().splitlines()[-1:]}', file=sys.stderr)
    return None


def main() -> int:
    """Measure, print a table, write JSON, compare with the floors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', type=Path)
    parser.add_argument('--sim', choices=('mujoco', 'mujoco_warp'), default='mujoco')
    parser.add_argument('--envs', type=int, default=512)
    parser.add_argument('--iterations', type=int, default=8)
    parser.add_argument('--mjlab-python', help='a Python in which mjlab runs; without it only our own is measured')
    parser.add_argument('--mjlab-worlds', type=int, default=64, help='64 was its fastest of 64 and 256 on two cores')
    parser.add_argument('--no-floors', action='store_true')
    args = parser.parse_args()
    torch.set_num_threads(2)
    figures: dict[str, float] = {}
    missed: list[str] = []

    def note(name: str, value: float) -> None:
        figures[name] = value
        floor = FLOORS.get(name) if args.sim == 'mujoco' else None
        below = floor is not None and (value > floor if name == 'elsewhere_share' else value < floor)
        bound = '' if floor is None else f'   {"at most" if name == "elsewhere_share" else "at least"} {floor:,}'
        print(f'{name:29}  {value:12,.3f}{bound}{"   MISSED" if below else ""}', flush=True)
        if below:
            missed.append(name)

    if args.sim == 'mujoco_warp':
        begin = time.perf_counter()
        physics(args.sim, 16, seconds=0.1)
        note('seconds_to_compile', time.perf_counter() - begin)
        for envs in sorted({args.envs // 16, args.envs // 4, args.envs}):
            note(f'physics_steps_per_s_{envs}_envs', physics(args.sim, envs))
    else:
        note('physics_steps_per_s', physics(args.sim, args.envs, 2))
        note('physics_steps_per_s_1_thread', physics(args.sim, args.envs, 1))
        note('rollout_steps_per_s', rollout(args.envs, 2))
    rate, share = environment(args.sim, args.envs)
    note('env_steps_per_s', rate)
    if args.sim == 'mujoco':
        note('env_physics_share', share)
    for name, value in ppo(args.sim, args.envs, args.iterations).items():
        note(name, value)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        note('gpu_memory_gib', (total - free) / 2**30)
    other = mjlab(args.mjlab_python, args.mjlab_worlds) if args.mjlab_python and args.sim == 'mujoco' else None
    if other is not None:
        ours = {
            'simulation': figures['physics_steps_per_s'] / SUBSTEPS, 'env': figures['env_steps_per_s'],
            'ppo': figures['ppo_samples_per_s'],
        }  # fmt: skip
        for name, rate in other.items():
            note(f'mjlab_{name}_steps_per_s', rate)
            note(f'{name}_times_mjlab', ours[name] / rate)
    elif args.mjlab_python and args.sim == 'mujoco':
        missed.append('mjlab')
    if 'rollout_steps_per_s' in figures:
        print(f'our stepper / mujoco.rollout, 2 steps at a time: '
              f'{figures["physics_steps_per_s"] / figures["rollout_steps_per_s"]:.2f}')  # fmt: skip
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=2) + '\n')
    return 0 if args.no_floors or not missed else 1


if __name__ == '__main__':
    sys.exit(main())
