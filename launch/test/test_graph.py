import importlib
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from humanx import graph
from humanx.graph import Options
from humanx.parameters import known_parameters, override
from humanx_description.errors import UserError
from humanx_description.skills import list_skills, load_skill

ROOT = Path(__file__).resolve().parents[2]


def names(options: Options) -> list[str]:
    return [spec.name for spec in graph.nodes(options)]


def test_the_nep_graph_has_no_mocap():
    assert names(Options('nep', 'stand')) == ['sim_g1', 'g1_driver', 'policy', 'visualizer']


def test_the_mocap_graph_has_the_bridge():
    assert names(Options('mocap', 'stand')) == ['sim_g1', 'g1_driver', 'mocap_bridge', 'policy', 'visualizer']


def test_a_real_robot_has_no_simulation_and_the_robots_domain():
    specs = {spec.name: spec for spec in graph.nodes(Options('nep', 'stand', sim=False, network_interface='eth0'))}
    assert 'sim_g1' not in specs
    assert specs['g1_driver'].parameters == {'network_interface': 'eth0', 'dds_domain': 0}


def test_a_simulation_stays_off_the_robots_domain_and_on_this_machine():
    for spec in graph.nodes(Options('mocap', 'stand')):
        if spec.name in ('sim_g1', 'g1_driver'):
            assert spec.parameters['dds_domain'] != 0
            assert spec.parameters['network_interface'] == 'lo'


def test_the_driver_is_the_first_to_stop_and_the_recorder_the_last():
    specs = graph.nodes(Options('mocap', 'stand', record='/tmp/never-made'))
    order = [spec.name for spec in sorted(specs, key=lambda spec: spec.stop_order)]
    assert (order[0], order[-1]) == ('g1_driver', 'recorder')


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (Options('mocap', 'juggling'), r"'juggling'; expected one of .*stand"),
        (Options('mocap', 'gone.onnx'), r'gone\.onnx'),
        (Options('walk', 'stand'), 'nep or mocap'),
        (Options('nep', 'stand', sim=False), 'network_interface is not given'),
        (Options('nep', 'stand', network_interface='eth0'), 'stays on this machine'),
        (Options('nep', 'stand', sim=False, network_interface='nowhere0'), "'nowhere0' does not exist"),
        (Options('nep', 'stand', seed=-1), 'seed is -1'),
        (Options('nep', 'stand', sim=False, network_interface='lo', go=True), 'real robot is started by its operator'),
        (Options('nep', 'stand', dds_domain=500), 'dds_domain is 500; expected 0 to 232'),
    ],
)
def test_choices_that_make_no_graph_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        graph.check(options)


def test_a_folder_with_files_is_not_recorded_over(tmp_path):
    (tmp_path / 'old').write_text('x')
    with pytest.raises(UserError, match='holds files already'):
        graph.check(Options('nep', 'stand', record=str(tmp_path)))
    assert (tmp_path / 'old').read_text() == 'x'


def test_a_folder_that_cannot_be_made_is_not_recorded_to(tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match=r'file/bag cannot be made; expected'):
        graph.check(Options('nep', 'stand', record=str(tmp_path / 'file' / 'bag')))
    graph.check(Options('nep', 'stand', record=str(tmp_path / 'new' / 'bag')))


def test_the_robot_is_not_let_down_for_want_of_a_record_or_a_picture():
    assert {spec.name for spec in ALL if not spec.required} == {'recorder', 'operator', 'visualizer'}


ALL = graph.nodes(Options('mocap', 'stand', record='/tmp/never-made', go=True))


@pytest.mark.parametrize('spec', ALL, ids=lambda spec: spec.name)
def test_executable_and_module_are_the_same_program(spec):
    """What `ros2 run` starts and what `python -m` starts, checked against the package's setup.py and package.xml."""
    folder = ROOT / 'launch' if spec.package == 'humanx' else ROOT / 'src' / spec.package
    assert f'{spec.executable} = {spec.module}:main' in (folder / 'setup.py').read_text()
    assert importlib.util.find_spec(spec.module) is not None
    assert f'<name>{spec.package}</name>' in (folder / 'package.xml').read_text()
    manifest = (ROOT / 'launch/package.xml').read_text()
    assert f'<exec_depend>{spec.package}</exec_depend>' in manifest or spec.package == 'humanx'


@pytest.mark.parametrize('spec', [s for s in ALL if s.config], ids=lambda spec: spec.name)
def test_parameter_files_are_whole(spec):
    data = yaml.safe_load((graph.config_dir() / spec.config).read_text())
    assert list(data) == ['/**']
    assert list(data['/**']) == ['ros__parameters']
    assert not set(data['/**']['ros__parameters']) & set(spec.parameters)


def declared(spec) -> dict[str, object]:
    """Return the parameters that the node's program declares, with their defaults."""
    modules = {
        'g1_driver': 'humanx_g1_driver.parameters',
        'sim_g1': 'humanx_g1_driver.sim.parameters',
        'mocap_bridge': 'humanx_mocap_bridge.config',
    }
    module = importlib.import_module(modules.get(spec.name, spec.module))
    return {param.name: param.default for param in module.PARAMS}


@pytest.mark.parametrize('spec', [s for s in ALL if s.name != 'operator'], ids=lambda spec: spec.name)
def test_every_parameter_is_in_the_file_or_in_the_list(spec):
    """With the default that the node declares, if in the file: scripts/write_parameter_files.py makes it so."""
    known, wanted = known_parameters(spec), declared(spec)
    assert set(known) == set(wanted)
    for name, value in known.items():
        assert type(value) is type(wanted[name]), name
        if name not in spec.parameters:
            equal = pytest.approx(wanted[name], abs=1e-6) if isinstance(value, float) else wanted[name]
            assert value == equal or isinstance(value, list), name


@pytest.mark.parametrize('skill', list_skills())
def test_the_bridge_reports_every_moving_object_of_the_skill(skill):
    bodies = graph.skill_bodies(skill)
    assert bodies[0] == 'pelvis'
    assert bodies[1:] == [spec.name for spec in load_skill(skill).objects if not spec.fixed]


def test_every_parameter_file_belongs_to_a_node():
    files = {path.name for path in graph.config_dir().glob('*.yaml')}
    assert files == {spec.config for spec in ALL if spec.config}


def test_a_parameter_of_the_command_line_goes_over_the_file():
    specs = override(graph.nodes(Options('nep', 'stand')), ['policy.state_timeout=0.03', 'visualizer.rate=5'])
    by_name = {spec.name: spec for spec in specs}
    assert by_name['policy'].parameters['state_timeout'] == 0.03
    assert by_name['visualizer'].parameters['rate'] == 5.0
    assert isinstance(by_name['visualizer'].parameters['rate'], float)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('policy.bogus=1', "no parameter 'bogus'; expected one of"),
        ('walker.x=1', "no node is called 'walker'; expected one of"),
        ('policy', 'expected NODE.NAME=VALUE'),
        ('policy.state_timeout', 'expected NODE.NAME=VALUE'),
        ('policy.state_timeout=soon', "holds 'soon'; expected a value like 0.035"),
        ('visualizer.show_targets=2', 'holds 2; expected a value like True'),
        ('visualizer.rate=[1, 2]', 'expected a value like 20.0'),
        ('mocap_bridge.bodies=ball', 'expected a value like'),
        ('mocap_bridge.bodies=[1, 2]', 'expected a value like'),
    ],
)
def test_bad_parameters_of_the_command_line(text, words):
    with pytest.raises(UserError, match=re.escape(words)):
        override(graph.nodes(Options('mocap', 'stand')), [text])


def test_known_parameters_have_flat_names():
    spec = next(s for s in ALL if s.name == 'visualizer')
    assert set(known_parameters(spec)) == {'rate', 'show_targets'}
