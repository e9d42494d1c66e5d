"""``humanx policy check|info``: look at policy files."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from humanx_policy import library, model_file
from humanx_policy.runtime import PolicyRuntime


def register(subparsers: 'argparse._SubParsersAction') -> None:
    """Add ``policy`` to the ``humanx`` command."""
    policy = subparsers.add_parser('policy', help='check a policy file, or show what is in it')
    actions = policy.add_subparsers(dest='action', required=True)
    check = actions.add_parser('check', help='say in sentences what is wrong with policy files')
    check.add_argument('file', nargs='+', help='policy file (.onnx), or the name of a trained skill')
    check.set_defaults(run=run_check)
    info = actions.add_parser('info', help='show the metadata and speed of a policy file')
    info.add_argument('file', help='policy file (.onnx), or the name of a trained skill')
    info.add_argument('--json', action='store_true', help='print JSON')
    info.set_defaults(run=run_info)


def run_check(args: argparse.Namespace) -> int:
    """Return 0 if every file is a policy this robot can run, else 1; sentences go to stdout."""
    paths = [_resolve(name) for name in args.file]
    status = 0
    for path in paths:
        problems = model_file.check_file(path)
        for problem in problems:
            print(f'{path}: {problem}')
        if problems:
            status = 1
        else:
            print(f'{path}: ok')
    return status


def run_info(args: argparse.Namespace) -> int:
    """Print what a policy file says about itself."""
    runtime = PolicyRuntime(_resolve(args.file))
    metadata = runtime.metadata
    info: dict[str, Any] = {
        'file': str(runtime.path),
        'sha256': runtime.sha256,
        'skill': metadata.skill,
        'mode': metadata.mode,
        'object_roles': list(metadata.object_roles),
        'observation_size': runtime.layout.size,
        'observation_terms': runtime.layout.to_list(),
        'control_period_s': metadata.control_period_s,
        'inference_us_median': _inference_time(runtime) * 1e6,
        'provenance': metadata.provenance,
        'measured': metadata.measured,
    }
    if args.json:
        print(json.dumps(info, indent=2))
        return 0
    for key, value in info.items():
        if key == 'observation_terms':
            for term in value:
                print(
                    f'  {term["name"]}: {term["size"]} x {len(term["history"])} lags '
                    f'{term["history"]}, scale {term["scale"]:g}'
                )
        elif isinstance(value, dict):
            print(f'{key}:')
            for name, entry in value.items():
                print(f'  {name}: {entry}')
        else:
            print(f'{key}: {value:.1f}' if isinstance(value, float) and value > 1 else f'{key}: {value}')
    return 0


def _resolve(name: str) -> Path:
    path = Path(name)
    return path if path.is_file() else library.find_policy(name)


def _inference_time(runtime: PolicyRuntime) -> float:
    times = []
    for _ in range(200):
        start = time.perf_counter()
        runtime.act()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
