"""More environments than memory holds are refused before anything begins."""

from __future__ import annotations

import os
from pathlib import Path

from humanx_description.errors import UserError

_MEMINFO = Path('/proc/meminfo')
# 30 kB of state and per-environment parameters, and about 1,000 float32 per step (student, teacher and critic together)
# for the rollout and its shuffled copy: an estimate from above.
_STATE, _STEP = 30_000, 1000 * 4 * 2


def check_memory(envs: int, steps: int) -> None:
    """Raise :class:`UserError` where ``envs`` environments with rollouts of ``steps`` do not fit."""
    per_env = steps * _STEP + _STATE
    need, have = envs * per_env, available()
    if need > have:
        raise UserError(
            f'--envs {envs} would need about {need / 1e9:.1f} GB, {have / 1e9:.1f} GB are free; '
            f'expected at most {have // per_env}.'
        )


def available() -> int:
    """Return the bytes that a program can have: free ones and those of files kept in memory."""
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_AVPHYS_PAGES')
