"""Conventions that every package of the workspace keeps."""

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = sorted([ROOT / 'launch/package.xml', *ROOT.glob('src/*/package.xml'), *ROOT.glob('src/*/*/package.xml')])
PACKAGES = [path.parent for path in MANIFESTS]
PYTHON = [folder for folder in PACKAGES if (folder / 'setup.py').is_file()]
INTERFACES = sorted(path for kind in ('msg', 'srv') for path in (ROOT / 'src/humanx_msgs' / kind).glob(f'*.{kind}'))

# Python modules that ROS has a rosdep key for. What is not here (mujoco, onnxruntime, the SDK, ...) comes from pip:
# docker/install-robot-extras on a ROS machine.
KEYS = {'numpy': 'python3-numpy', 'yaml': 'python3-yaml', 'scipy': 'python3-scipy', 'psutil': 'python3-psutil'}
ROS = re.compile(r'(humanx_\w+|\w+_msgs|\w+_interfaces|std_srvs|rclpy|launch|launch_ros|ament_index_python)$')


def name_of(folder: Path) -> str:
    return ElementTree.parse(folder / 'package.xml').getroot().findtext('name', '')


@pytest.mark.parametrize('folder', PACKAGES, ids=name_of)
def test_manifest(folder):
    root = ElementTree.parse(folder / 'package.xml').getroot()
    assert root.get('format') == '3'
    assert folder.name == root.findtext('name') or folder == ROOT / 'launch'
    assert root.findtext('license') == 'Apache-2.0'
    assert root.find('maintainer').get('email')
    assert root.findtext('description').strip().endswith('.')
    assert root.find('export/build_type').text in ('ament_python', 'ament_cmake')
    dependencies = [(d.tag, d.text) for d in root if d.tag.endswith('depend')]
    assert len(dependencies) == len(set(dependencies))


@pytest.mark.parametrize('folder', PYTHON, ids=name_of)
def test_ament_python_files(folder):
    name = name_of(folder)
    assert (folder / 'resource' / name).is_file()
    settings = (folder / 'setup.cfg').read_text()
    assert f'script_dir=$base/lib/{name}' in settings
    assert f'install_scripts=$base/lib/{name}' in settings
    version = ElementTree.parse(folder / 'package.xml').getroot().findtext('version')
    assert f"version='{version}'" in (folder / 'setup.py').read_text()


def imported(folder: Path) -> set[str]:
    """Return the names of the modules that a package's own code imports, anywhere in it."""
    names = set()
    for path in (folder / name_of(folder)).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize('folder', PYTHON, ids=name_of)
def test_every_ros_import_is_declared(folder):
    root = ElementTree.parse(folder / 'package.xml').getroot()
    declared = {d.text for d in root if d.tag in ('depend', 'exec_depend')}
    needed = {KEYS.get(name, name) for name in imported(folder) if name in KEYS or ROS.match(name)}
    # `humanx trial` starts the graph that the package `humanx` describes, which depends on the driver: declaring that
    # too would be a circle.
    needed -= {name_of(folder), 'humanx'}
    assert needed <= declared, f'{folder.name}/package.xml lacks {sorted(needed - declared)}'


def test_the_robot_does_not_import_training():
    for folder in PYTHON:
        if name_of(folder) != 'humanx_training' and folder != ROOT / 'launch':
            assert 'humanx_training' not in imported(folder), folder.name


@pytest.mark.parametrize('path', INTERFACES, ids=lambda path: path.name)
def test_every_field_is_documented(path):
    """A comment on the field's line, above its block of lines, or on the constants that say what it can be."""
    assert path.read_text().startswith('#')
    documented = False
    for line in path.read_text().splitlines()[1:]:
        if not line.strip() or line.strip() == '---':
            documented = False
        elif line.startswith('#'):
            documented = True
        else:
            assert documented or '#' in line, f'{path.name}: {line}'
            documented = documented or '=' in line


def test_every_interface_is_built():
    text = (ROOT / 'src/humanx_msgs/CMakeLists.txt').read_text()
    for path in INTERFACES:
        assert f'"{path.parent.name}/{path.name}"' in text
