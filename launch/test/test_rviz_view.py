"""The RViz view names the topics and frames that the graph really has."""

from pathlib import Path

import yaml

from humanx.graph import config_dir


def displays() -> dict[str, dict]:
    path = Path(config_dir()).parent / 'rviz' / 'view.rviz'
    view = yaml.safe_load(path.read_text())['Visualization Manager']
    assert view['Global Options']['Fixed Frame'] == 'world'
    return {display['Name']: display for display in view['Displays']}


def test_robot_and_ghost_use_the_published_description():
    shown = displays()
    for name, prefix in (('Robot', ''), ('Joint targets', 'target')):
        assert shown[name]['Description Topic']['Value'] == '/robot_description'
        assert shown[name]['Description Topic']['Durability Policy'] == 'Transient Local'
        assert shown[name]['TF Prefix'] == prefix


def test_markers_are_shown():
    assert displays()['Objects and status']['Topic']['Value'] == '/humanx/markers'
