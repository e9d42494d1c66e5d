"""What is used of Unitree's SDK and of CycloneDDS, and the guard around the latter.

The driver needs of ``unitree_sdk2py`` only the message types (their names and hashes are what the robot matches on)
and, on a real robot, the client of its motion service.
"""

import re
import sys
import types
from functools import cache
from importlib import metadata
from pathlib import Path

from humanx_description.errors import UserError


def prepare_sdk_import() -> None:
    """Make ``import unitree_sdk2py`` possible: the 1.0.1 wheel imports a sub-package ``b2`` that it does not hold."""
    sys.modules.setdefault('unitree_sdk2py.b2', types.ModuleType('unitree_sdk2py.b2'))


@cache
def message_types() -> tuple[type, type]:
    """Return the SDK's classes ``LowCmd_`` and ``LowState_`` of the G1."""
    prepare_sdk_import()
    try:
        from unitree_sdk2py.idl.unitree_hg.msg.dds_ import LowCmd_, LowState_
    except ImportError as error:
        raise UserError(
            f'The Unitree SDK cannot be loaded ({error}): run `make setup`, which installs unitree_sdk2 1.0.1 and '
            'builds cyclonedds 0.10.2.'
        ) from None
    for message in (LowCmd_, LowState_):
        # The binding builds its type descriptions on first use, for a good part of a second; not later, in a thread
        # that runs before all others.
        message.__idl__.populate()
        message.__idl__.fill_type_data()
    return LowCmd_, LowState_


def cyclonedds_versions() -> dict[str, str]:
    """Return the versions of the Python binding and of the C library this process has loaded."""
    import cyclonedds.internal  # noqa: F401  (loads the library)

    versions = {'cyclonedds (Python)': metadata.version('cyclonedds')}
    libraries = {line.split()[-1] for line in Path('/proc/self/maps').read_text().splitlines() if 'libddsc' in line}
    for library in sorted(libraries):
        found = re.search(r'libddsc(?:-\w+)?\.so\.(\d+\.\d+\.\d+)', str(Path(library).resolve()))
        versions[library] = found.group(1) if found else 'unknown'
    return versions


def refuse_wrong_cyclonedds(versions: dict[str, str], network_interface: str) -> None:
    """Raise :class:`UserError` unless everything is 0.10.x.

    A participant of CycloneDDS 11 crashes the 0.10 one on the robot's computer on discovery, so nothing else may ever
    appear on the robot's network.
    """
    wrong = [f'{name} is {version}' for name, version in versions.items() if not version.startswith('0.10.')]
    if wrong:
        raise UserError(
            f'Refusing to join the network of {network_interface!r}: {" and ".join(wrong)}, but the robot runs '
            'CycloneDDS 0.10 and other versions crash it; install 0.10.2 (`make setup`).'
        )
