"""What can be said of the container files without an engine that builds them: everything they name exists."""

import re
import subprocess
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


def test_one_service_can_be_started_without_the_settings_of_another():
    text = (DOCKER / 'compose.yaml').read_text()
    assert ':?' not in re.sub('#.*', '', text), 'compose asks for such a variable whatever service is started'
    services = yaml.safe_load(text)['services']
    assert set(services) == {'sim', 'robot', 'training'}
    for service in services.values():
        assert (ROOT / service['build']['dockerfile']).is_file()
