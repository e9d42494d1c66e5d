"""Repair the ROS wheels of a virtual environment so that CMake can build interface packages against them.

Their exported CMake files name the include folders of the machine that built the wheels. This replaces them by the
folders of the running interpreter and its numpy. Running it again changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

_BUILDER = re.compile(
    r'/opt/python/cp\d+-cp\d+/(?:include/python3\.\d+|lib/python3\.\d+/site-packages/numpy/_?core/include)'
)


def repair(share: Path) -> int:
    """Rewrite the CMake files under ``share`` in place and return how many were changed."""
    python_include = sysconfig.get_paths()['include']
    numpy_include = numpy.get_include()
    changed = 0
    for path in sorted(share.rglob('*.cmake')):
        text = path.read_text(encoding='utf-8')
        fixed = _BUILDER.sub(lambda m: numpy_include if 'numpy' in m.group() else python_include, text)
        if fixed != text:
            # Written beside and renamed, so that an interrupted run leaves no half file.
            temporary = path.with_suffix('.cmake.new')
            temporary.write_text(fixed, encoding='utf-8')
            temporary.replace(path)
            changed += 1
    return changed


if __name__ == '__main__':
    print(f'repaired {repair(Path(sys.prefix) / "share")} CMake files of the ROS wheels')
