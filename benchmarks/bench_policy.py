"""Time of the policy's tick, piece by piece, against a plain way of doing the same.

    python benchmarks/bench_policy.py --json out/bench_policy.json

In one run: the observation history for one robot and for 512 environments (against a history kept as lists of frames
and concatenated), the network by bound memory (against ``session.run``), and the whole controller step. Status 1 if a
bound is not met. The tick of the real node in the real graph is measured by ``bench_graph.py``.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from humanx_description import robot
from humanx_policy import observation as ob
from humanx_policy.controller import ObjectsSample, PolicyController, RobotSample
from humanx_policy.export import Mlp, write_policy
from humanx_policy.metadata import PolicyMetadata
from humanx_policy.runtime import PolicyRuntime

J = robot.NUM_JOINTS
WIDTHS = (512, 256, 128)
# Medians in s; the tick's bound of 2 ms at p99 is the project's.
BOUNDS = {'history_1': 150e-6, 'history_512': 2e-3, 'step': 1e-3}
P99_BOUNDS = {'step': 2e-3}


class PlainHistory:
    """The usual way: a list of whole frames, concatenated anew in every tick."""

    def __init__(self, layout: ob.ObservationLayout) -> None:
        self._layout = layout
        depth = max(max(term.history) for term in layout.terms) + 1
        self._frames: deque = deque(maxlen=depth)

    def push(self, terms: dict) -> None:
        frame = {t.name: terms[t.name] * np.float32(t.scale) for t in self._layout.terms}
        while len(self._frames) < self._frames.maxlen:
            self._frames.append(frame)
        self._frames.append(frame)

    def vector(self) -> np.ndarray:
        parts = []
        for term in self._layout.terms:
            for lag in term.history:
                parts.append(self._frames[-1 - lag][term.name].astype(np.float32))
        return np.concatenate(parts, axis=1)


def measure(function: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return median, p99 and worst duration of ``function`` in s."""
    for _ in range(20):
        function()
    times = np.empty(repeats)
    for k in range(repeats):
        start = time.perf_counter()
        function()
        times[k] = time.perf_counter() - start
    return {
        'median': float(np.median(times)),
        'p99': float(np.percentile(times, 99)),
        'max': float(times.max()),
    }


def random_terms(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Return one tick's raw terms of ``count`` environments."""
    layout = ob.ObservationLayout(ob.mocap_terms())
    return {t.name: rng.normal(size=(count, t.size)).astype(np.float32) for t in layout.terms}


def tick(history: object, terms: dict) -> Callable[[], None]:
    """Return a function that does one push and reads one vector."""

    def run() -> None:
        history.push(terms)
        history.vector()

    return run


def policy_file(folder: Path, layout: ob.ObservationLayout) -> Path:
    """Write a MoCap policy of the size that training makes."""
    rng = np.random.default_rng(0)
    sizes = [layout.size, *WIDTHS, J]
    layers = [(rng.normal(size=(out, size)) / size**0.5, np.zeros(out)) for size, out in pairwise(sizes)]
    path = folder / 'bench.onnx'
    metadata = PolicyMetadata(skill='bench', mode='mocap', observation_terms=layout, object_roles=('ball',))
    network = Mlp(layers, obs_mean=np.zeros(layout.size), obs_std=np.ones(layout.size))
    write_policy(path, network, metadata)
    return path


def run(repeats: int) -> dict[str, dict]:
    """Return the measurements by name, each with its alternative where there is one."""
    rng = np.random.default_rng(0)
    layout = ob.ObservationLayout(ob.mocap_terms())
    rows: dict[str, dict] = {}
    for count in (1, 512):
        terms = random_terms(rng, count)
        plain = PlainHistory(layout)
        ours = ob.ObservationHistory(layout, count)
        ours.push(terms)
        plain.push(terms)
        assert np.allclose(ours.vector(), plain.vector(), atol=1e-6)
        share = repeats if count == 1 else repeats // 5
        rows[f'history_{count}'] = measure(tick(ours, terms), share) | {
            'alternative': measure(tick(plain, terms), share),
            'alternative_name': 'list of frames',
        }
    with tempfile.TemporaryDirectory() as folder:
        runtime = PolicyRuntime(policy_file(Path(folder), layout))
    session, observation = runtime._session, runtime.observation
    rows['network'] = measure(runtime.act, repeats) | {
        'alternative': measure(lambda: session.run(['action'], {'obs': observation}), repeats),
        'alternative_name': 'session.run',
    }
    controller = PolicyController(runtime)
    state = RobotSample(rng.normal(size=3), np.array([1.0, 0, 0, 0]), rng.normal(size=J), rng.normal(size=J))
    objects = ObjectsSample(np.zeros(3), np.array([1.0, 0, 0, 0]), True, rng.normal(size=(1, 3)), np.array([True]))
    rows['step'] = measure(lambda: controller.step(state, objects), repeats)
    return rows


def main() -> int:
    """Print the table, write the JSON, say whether the bounds are met."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--json', type=Path)
    parser.add_argument('--repeats', type=int, default=5000)
    args = parser.parse_args()
    rows = run(args.repeats)
    print(f'{"us":>12} {"median":>9} {"p99":>9} {"max":>9} {"other":>9} {"ratio":>6}  against')
    failed = []
    for name, row in rows.items():
        other = row.get('alternative')
        ratio = other['median'] / row['median'] if other else float('nan')
        row['ratio'] = ratio if other else None
        print(
            f'{name:>12} {row["median"] * 1e6:9.1f} {row["p99"] * 1e6:9.1f} {row["max"] * 1e6:9.1f} '
            + (f'{other["median"] * 1e6:9.1f} {ratio:6.2f}  {row["alternative_name"]}' if other else '')
        )
        if row['median'] > BOUNDS.get(name, np.inf) or row['p99'] > P99_BOUNDS.get(name, np.inf):
            failed.append(name)
    print('bounds missed: ' + ', '.join(failed) if failed else 'all bounds met')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        report = {'machine': platform.processor() or platform.machine(), 'seconds': rows}
        args.json.write_text(json.dumps(report | {'failed': failed}, indent=2) + '\n')
    return 1 if failed else 0


if __name__ == '__main__':
    raise SystemExit(main())
