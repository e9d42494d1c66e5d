"""Compile the C stepper on first use, against the headers and library inside the ``mujoco`` package."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import mujoco

SOURCE = Path(__file__).parent / 'native' / 'hxsim.c'
FLAGS = ('-O3', '-march=native', '-std=gnu11', '-Wall', '-shared', '-fPIC', '-pthread')


class BuildError(Exception):
    """The C stepper cannot be built here; the message says why."""


def cache_dir() -> Path:
    """Return the folder of compiled helpers: ``$HUMANX_CACHE``, or ``humanx`` in the user's cache folder."""
    override = os.environ.get('HUMANX_CACHE')
    if override:
        return Path(override)
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'humanx'


@lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL:
    """Return the compiled stepper, compiling it unless this source, compiler and MuJoCo were seen before.

    Raises :class:`BuildError` without a C compiler or MuJoCo's headers.
    """
    package = Path(mujoco.__file__).parent
    library = next(iter(sorted(package.glob('libmujoco.so.*'))), None)
    compiler = os.environ.get('CC') or shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')
    if library is None or not (package / 'include/mujoco/mujoco.h').is_file():
        raise BuildError(f'{package} holds no libmujoco.so and headers')
    if compiler is None:
        raise BuildError('there is no C compiler (cc)')
    # -march=native: a cache shared between machines must not hand one machine's code to another.
    key = '|'.join([SOURCE.read_text(), mujoco.__version__, compiler, *FLAGS, platform.machine(), _cpu_flags()])
    target = cache_dir() / f'hxsim-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so'
    if not target.is_file():
        _compile(compiler, package, library, target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise BuildError(f'{target} cannot be loaded ({error})') from None


def _cpu_flags() -> str:
    try:
        text = Path('/proc/cpuinfo').read_text()
    except OSError:
        return platform.processor()
    return next((line for line in text.splitlines() if line.startswith(('flags', 'Features'))), '')


def _compile(compiler: str, package: Path, library: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / target.name
            command = [compiler, *FLAGS, f'-I{package / "include"}', str(SOURCE), '-o', str(built), str(library)]
            command.append(f'-Wl,-rpath,{package}')
            result = subprocess.run(command, capture_output=True, text=True, timeout=120)
            if result.returncode:
                raise BuildError(f'{" ".join(command)} failed: {result.stderr.strip()[-2000:]}')
            built.replace(target)  # atomic: two processes may compile at once
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f'{compiler} could not be run in {target.parent} ({error})') from None
