"""A training that met a number that is not finite: what caused it is kept, then it ends with one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from humanx_description.errors import UserError
from humanx_training.xmimic import checkpoint
from humanx_training.xmimic.env import HumanXEnv
from humanx_training.xmimic.ppo import NonFiniteError

FILE = 'nonfinite.pt'


def save_failure(folder: Path, env: HumanXEnv, error: NonFiniteError, when: str, **more: Any) -> UserError:
    """Write the environment's state and ``more`` to ``folder``; return the sentence to stop with.

    ``when`` completes "training stopped ...".
    """
    path = folder / FILE
    checkpoint.save(path, {
        'kind': 'nonfinite', 'where': error.where, 'qpos': env.sim.qpos.clone(), 'qvel': env.sim.qvel.clone(),
        'action': env.action.clone(), 'frame': env.frame.clone(),
        'observations': dict(env.get_observations().items()), **more,
    })  # fmt: skip
    return UserError(f'training stopped {when}: {error}; the state that caused it is in {path}.')


@contextlib.contextmanager
def kept_failures(folder: Path, env: HumanXEnv, when: str) -> Iterator[None]:
    """Save the state of ``env`` where what is done meets a number that is not finite, and stop with a sentence."""
    try:
        yield
    except NonFiniteError as error:
        raise save_failure(folder, env, error, when) from error
