"""Parameter files that are wrong, each given to the node's own process: one sentence and status 2."""

import dataclasses
import subprocess
from pathlib import Path

import pytest
import yaml

from humanx import graph
from humanx.launcher import command

pytestmark = pytest.mark.ros
SPECS = [spec for spec in graph.nodes(graph.Options('mocap', 'stand', record='/tmp/never-made')) if spec.config]


def first_number(parameters: dict, prefix: str = '') -> tuple[dict, str, str]:
    """Return the mapping that holds the first number, its key there, and its flat name."""
    for key, value in parameters.items():
        if isinstance(value, dict):
            found = first_number(value, f'{prefix}{key}.')
            if found[1]:
                return found
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return parameters, key, f'{prefix}{key}'
    return parameters, '', ''


def wrong_files(spec: graph.NodeSpec, folder: Path) -> dict[Path, str]:
    """Write files made of the node's own one; return what has to be said about each."""
    text = (graph.config_dir() / spec.config).read_text()
    wrong_type, unknown = yaml.safe_load(text), yaml.safe_load(text)
    holder, key, name = first_number(wrong_type['/**']['ros__parameters'])
    holder[key] = 'soon'
    unknown['/**']['ros__parameters']['bogus'] = 1
    paths = [folder / f'{kind}.yaml' for kind in ('wrong_type', 'unknown', 'broken')]
    paths[0].write_text(yaml.safe_dump(wrong_type))
    paths[1].write_text(yaml.safe_dump(unknown))
    paths[2].write_text(text + '  rate: [1.0\n')
    words = [f"parameter '{name}' is 'soon'; expected ", "unknown parameter 'bogus'; expected one of", str(paths[2])]
    return dict(zip(paths, words))


@pytest.mark.parametrize('spec', SPECS, ids=lambda spec: spec.name)
def test_a_wrong_parameter_file_is_one_sentence_and_status_2(spec, ros_env, tmp_path):
    parameters = {**spec.parameters, **({'directory': str(tmp_path / 'bag')} if spec.name == 'recorder' else {})}
    files = wrong_files(spec, tmp_path)
    started = {
        path: subprocess.Popen(
            command(dataclasses.replace(spec, config=str(path), parameters=parameters)),
            env=ros_env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for path in files
    }  # fmt: skip
    for path, process in started.items():
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 2, output
        said = [line for line in output.splitlines() if files[path] in line]
        assert len(said) == 1, output
        assert 'Traceback' not in output
    assert not (tmp_path / 'bag').exists()
