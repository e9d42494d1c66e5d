"""What can be said of the container files without an engine that builds them: everything they name exists."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / 'docker'
LOCKED = {line.split('==')[0] for line in (ROOT / 'requirements.lock').read_text().splitlines() if '==' in line}


def sources() -> list[str]:
    """Return what the images copy from the build context."""
    found = []
    for path in DOCKER.glob('*.Dockerfile'):
        for line in re.findall(r'^COPY (.*)$', path.read_text(), flags=re.MULTILINE):
            found += line.split()[:-1]
    return sorted(set(found))


@pytest.mark.parametrize('source', sources())
def test_what_is_copied_is_in_the_repository(source):
    tracked = subprocess.run(['git', 'ls-files', source], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert (ROOT / source).exists()
    assert tracked or not (ROOT / '.git').exists()


@pytest.mark.parametrize('path', [DOCKER / 'entrypoint', DOCKER / 'install-robot-extras', ROOT / 'scripts/setup'])
def test_what_is_run_may_be_run_and_is_a_shell_script(path):
    assert path.stat().st_mode & 0o111
    subprocess.run(['bash', '-n', str(path)], check=True)


def test_the_robots_image_installs_what_the_lock_holds():
    text = (DOCKER / 'install-robot-extras').read_text()
    names = ' '.join(re.findall(r'\$\(locked ([^)]*)\)', text)).split()
    assert {'mujoco', 'onnxruntime', 'unitree-sdk2'} <= set(names) <= LOCKED
    # The generation of CycloneDDS that the robot speaks, built against Ubuntu's own library of that generation.
    assert 'scripts/cyclonedds_binding' in text
    assert 'cyclonedds==0.10.2' in (ROOT / 'scripts/cyclonedds_binding').read_text()


# What the robot's packages import that neither ROS nor rosdep has, by what install-robot-extras installs for it.
BROUGHT_BY = {
    'PIL': 'imageio', 'backports': 'rosbags', 'imageio': 'imageio', 'lz4': 'rosbags', 'mujoco': 'mujoco',
    'onnxruntime': 'onnxruntime', 'rosbags': 'rosbags', 'trimesh': 'trimesh', 'unitree_sdk2py': 'unitree-sdk2',
}  # fmt: skip
# By rosdep and setuptools, and by scripts/cyclonedds_binding; the last two where policies are trained and written only.
BROUGHT_OTHERWISE = {'numpy', 'yaml', 'setuptools', 'cyclonedds', 'torch', 'onnx'}
ROS = re.compile(r'humanx(_\w+)?$|\w+_(msgs|interfaces)$|std_srvs|rclpy|launch(_ros)?$|ament_index_python')


def test_the_robots_image_has_what_its_packages_import():
    text = (DOCKER / 'install-robot-extras').read_text()
    installed = {name for name in LOCKED if re.search(rf'\b{name}\b', text)}
    for package in ('humanx', 'humanx_description', 'humanx_policy', 'humanx_mocap_bridge', 'humanx_g1_driver'):
        folder = ROOT / ('launch' if package == 'humanx' else f'src/{package}') / package
        for path in folder.rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                else:
                    names = [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                for name in {name.partition('.')[0] for name in names} - set(sys.stdlib_module_names):
                    known = ROS.match(name) or name in BROUGHT_OTHERWISE or BROUGHT_BY.get(name) in installed
                    assert known, f'{path.relative_to(ROOT)} imports {name}'


def test_one_service_can_be_started_without_the_settings_of_another():
    text = (DOCKER / 'compose.yaml').read_text()
    assert ':?' not in re.sub('#.*', '', text), 'compose asks for such a variable whatever service is started'
    services = yaml.safe_load(text)['services']
    assert set(services) == {'sim', 'robot', 'training'}
    for service in services.values():
        assert (ROOT / service['build']['dockerfile']).is_file()
