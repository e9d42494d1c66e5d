"""Where the model-based teachers' commands read and write, and what stands in their way."""

from __future__ import annotations

import argparse
from pathlib import Path

from humanx_description.errors import UserError

REPORT = 'teacher.json'


def new_teacher(args: argparse.Namespace, skill: str) -> Path:
    """Return the folder of a teacher to be made; :class:`UserError` where there is one already and no ``--resume``."""
    out: Path = args.out or Path('out') / f'{skill}_teacher'
    if (out / REPORT).exists() and not args.resume:
        raise UserError(f'{out}: holds a teacher already; give --resume to complete it or another --out.')
    return out


def teacher_of(args: argparse.Namespace) -> Path:
    """Return the folder of the one teacher that a student is distilled from."""
    if len(args.teacher_from) != 1:
        raise UserError('--teacher-from: expected the folder of one model-based teacher.')
    return Path(args.teacher_from[0])
