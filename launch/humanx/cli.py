"""The ``humanx`` command: finds the part that offers a command and hands over to it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from humanx_description.discovery import stay_on_this_machine
from humanx_description.errors import UserError

# Each has a function ``register(subparsers)``. A command that is in the table costs the import of its part only; help
# and unknown commands import all parts. A part that is not installed (training, on the robot) is left out.
PARTS = (
    'humanx.commands',
    'humanx_policy.cli',
    'humanx_g1_driver.cli',
    'humanx_mocap_bridge.cli',
    'humanx_training.cli',
    'humanx_training.xgen.cli',
    'humanx_training.xmimic.cli',
)
HOME = {
    'up': 'humanx.commands',
    'stand': 'humanx.commands',
    'run': 'humanx.commands',
    'damp': 'humanx.commands',
    'estop': 'humanx.commands',
    'status': 'humanx.commands',
    'policy': 'humanx_policy.cli',
    'trial': 'humanx_g1_driver.cli',
    'bag': 'humanx_g1_driver.cli',
    'xgen': 'humanx_training.xgen.cli',
    'clip': 'humanx_training.cli',
    'train': 'humanx_training.xmimic.cli',
    'export': 'humanx_training.xmimic.cli',
    'eval': 'humanx_training.xmimic.cli',
}


# Small matrices, one process per core: threads of the BLAS's own cost cargo's clip set five times the CPU time.
SINGLE_THREADED = ('xgen', 'clip')


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """Return the parser with ``command``'s part registered, or with all parts where that one is not known."""
    parser = argparse.ArgumentParser(
        prog='humanx',
        description='From a video of a person handling an object to a Unitree G1 that does it.',
    )
    subparsers = parser.add_subparsers(title='commands', dest='command', required=True, metavar='COMMAND')
    home = HOME.get(command or '')
    for name in [home] if home else PARTS:
        module = _load(name)
        if module is not None:
            module.register(subparsers)
    return parser


def _load(name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The part itself is absent; a part that misses something it needs must not vanish silently.
        if error.name and (name == error.name or name.startswith(error.name + '.')):
            return None
        print(f'humanx: the commands of {name} are not available: {error}.', file=sys.stderr)
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 failed or "no", 2 wrong input."""
    argv = sys.argv[1:] if argv is None else list(argv)
    stay_on_this_machine()
    if argv and argv[0] in SINGLE_THREADED:  # read by numpy's BLAS as it is loaded, with the command's part
        for variable in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
            os.environ.setdefault(variable, '1')
    try:
        args = build_parser(argv[0] if argv else None).parse_args(argv)
        return int(args.run(args) or 0)
    except UserError as error:
        print(f'humanx: {error}', file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe went away (`humanx ... | head`): nothing is wrong, and nothing may be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(main())
