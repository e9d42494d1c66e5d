"""The commands of this package outside ``xgen`` and ``xmimic``."""

from humanx_training.clip_cli import register

__all__ = ['register']
