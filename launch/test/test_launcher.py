"""The launcher with real processes; what they do is a few lines of Python each."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from humanx import launcher
from humanx.graph import NodeSpec
from humanx.launcher import Launcher, command, yaml_value

# Stays until it is told to stop; the file beside the program says that it is ready for that.
STAYS = """
    import pathlib, signal, sys, time
    signal.signal(signal.SIGINT, lambda *_: (print('bye', flush=True), sys.exit(0)))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    print('up', flush=True)
    pathlib.Path(__file__).with_suffix('.up').touch()
    time.sleep(60)
"""
AFTER_GOOD = """
    import os, pathlib, sys, time
    while not pathlib.Path(__file__).with_name('good.up').exists():
        time.sleep(0.01)
    print('sentence', flush=True)
    {code}
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return a function that makes a node of a program's text; its process is found by the node's name."""
    made: dict[str, Path] = {}

    def make(name: str, text: str, **fields) -> NodeSpec:
        made[name] = tmp_path / f'{name}.py'
        made[name].write_text(textwrap.dedent(text))
        return NodeSpec(name, 'test', name, name, **fields)

    # Programs instead of modules, so that nothing but the launcher is under test.
    monkeypatch.setattr(launcher, 'command', lambda spec: [sys.executable, str(made[spec.name])])
    return make


def interrupt_when_up(folder: Path, *names: str):
    """Return an ``on_tick`` that does what Ctrl-C does as soon as these nodes are ready."""
    sent = []

    def tick() -> None:
        if not sent and all((folder / f'{name}.up').exists() for name in names):
            sent.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    return tick


def running(launched: Launcher) -> list[int]:
    return [c.process.pid for c in launched.children if psutil.pid_exists(c.process.pid)]


def test_output_has_the_nodes_name_in_front(programs):
    out = io.StringIO()
    text = "import sys; print('first\\nsecond'); print('third', file=sys.stderr); print('no end', end='')"
    one = programs('one', text)
    assert Launcher([one], out=out, linger=0.1).run() == 1  # a required node that ends is a failure even with status 0
    lines = out.getvalue().splitlines()
    for text in ('first', 'second', 'third', 'no end'):
        assert any(line.startswith('[one]') and text in line for line in lines), lines
    assert '[humanx] one ended with status 0' in lines
    assert '[humanx] one is required: stopping everything' in lines


def test_an_interrupt_stops_everything_and_is_no_failure(programs, tmp_path):
    out = io.StringIO()
    launched = Launcher([programs('a', STAYS), programs('b', STAYS)], out=out)
    launched.on_tick = interrupt_when_up(tmp_path, 'a', 'b')
    assert launched.run() == 0
    assert running(launched) == []
    assert out.getvalue().count('bye') == 2


def test_duration_stops_everything_and_is_no_failure(programs):
    out = io.StringIO()
    launched = Launcher([programs('a', STAYS)], duration=3.0, out=out)
    start = time.monotonic()
    assert launched.run() == 0
    assert time.monotonic() - start >= 3.0
    assert running(launched) == []
    assert '[humanx] 3 s are over: stopping' in out.getvalue()


def test_another_thread_stops_everything_and_that_is_no_failure(programs, tmp_path):
    out = io.StringIO()
    launched = Launcher([programs('a', STAYS)], out=out)

    def stop_when_up() -> None:
        while not (tmp_path / 'a.up').exists():
            time.sleep(0.01)
        launched.stop()

    threading.Thread(target=stop_when_up, daemon=True).start()
    assert launched.run() == 0
    assert running(launched) == []
    assert '[humanx] done: stopping' in out.getvalue()
    launched.stop()  # too late to do anything, a signal to this process least of all


@pytest.mark.parametrize(('code', 'expected'), [('sys.exit(3)', 1), ('sys.exit(2)', 2), ('os.kill(os.getpid(), 9)', 1)])
def test_a_required_node_that_fails_stops_the_others(programs, code, expected):
    out = io.StringIO()
    bad = programs('bad', AFTER_GOOD.format(code=code))
    launched = Launcher([programs('good', STAYS), bad], out=out, linger=0.1)
    assert launched.run() == expected
    assert running(launched) == []
    assert '[bad] sentence' in out.getvalue()
    assert '[good] bye' in out.getvalue()


def test_a_node_that_is_not_required_may_end(programs, tmp_path):
    out = io.StringIO()
    picture = programs('picture', 'raise SystemExit(0)', required=False)
    launched = Launcher([programs('good', STAYS), picture], out=out)
    interrupt = interrupt_when_up(tmp_path, 'good')
    launched.on_tick = lambda: interrupt() if 'picture ended' in out.getvalue() else None
    assert launched.run() == 0
    assert '[good] bye' in out.getvalue()


def test_a_node_that_is_not_required_but_failed_makes_the_status(programs, tmp_path):
    out = io.StringIO()
    picture = programs('picture', 'raise SystemExit(5)', required=False)
    launched = Launcher([programs('good', STAYS), picture], out=out)
    interrupt = interrupt_when_up(tmp_path, 'good')
    launched.on_tick = lambda: interrupt() if 'picture ended' in out.getvalue() else None
    assert launched.run() == 1
    assert 'picture ended with status 5' in out.getvalue()


def test_nodes_stop_in_their_order(programs, tmp_path):
    out = io.StringIO()
    specs = [programs(n, STAYS, stop_order=o) for n, o in (('last', 2), ('first', 0), ('middle', 1))]
    interrupt = interrupt_when_up(tmp_path, 'first', 'middle', 'last')
    assert Launcher(specs, out=out, on_tick=interrupt).run() == 0
    byes = [line for line in out.getvalue().splitlines() if line.endswith('bye')]
    assert byes == ['[first] bye', '[middle] bye', '[last] bye']


def test_a_node_that_ignores_signals_is_killed_with_what_it_started(programs, tmp_path):
    deaf = """
        import signal, subprocess, sys, time
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
        print('child', child.pid, flush=True)
        __import__('pathlib').Path(__file__).with_suffix('.up').touch()
        time.sleep(60)
    """
    out = io.StringIO()
    launched = Launcher([programs('deaf', deaf)], grace=0.3, out=out)
    launched.on_tick = interrupt_when_up(tmp_path, 'deaf')
    assert launched.run() == 1
    grandchild = next(int(line.split()[-1]) for line in out.getvalue().splitlines() if ' child ' in line)
    assert running(launched) == []
    assert gone(grandchild)


def test_a_node_that_cannot_be_started_leaves_nothing_running(programs, monkeypatch):
    good, absent = programs('good', STAYS), programs('absent', '')
    usual = launcher.command
    monkeypatch.setattr(launcher, 'command', lambda spec: ['/nowhere/x'] if spec.name == 'absent' else usual(spec))
    launched = Launcher([good, absent], out=io.StringIO())
    with pytest.raises(FileNotFoundError):
        launched.run()
    assert running(launched) == []


def gone(pid: int) -> bool:
    """Whether the process ends within a moment; its death is not waited for by the one who killed it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def start_launcher(tmp_path: Path) -> tuple[subprocess.Popen, list[int]]:
    """Start a launcher with two nodes in a process of its own; return it and the nodes' pids."""
    node = tmp_path / 'node.py'
    node.write_text(textwrap.dedent(STAYS).replace("'up'", "'pid', __import__('os').getpid()"))
    main = tmp_path / 'main.py'
    main.write_text(
        textwrap.dedent(f"""
        import sys
        from humanx import launcher
        from humanx.graph import NodeSpec
        launcher.command = lambda spec: [sys.executable, {str(node)!r}]
        specs = [NodeSpec(name, 'test', name, name) for name in ('a', 'b')]
        sys.exit(launcher.Launcher(specs).run())
        """)
    )
    process = subprocess.Popen([sys.executable, str(main)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(process.stdout.readline().split()[-1]) for _ in range(2)]
    return process, pids


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(tmp_path, number):
    process, pids = start_launcher(tmp_path)
    process.send_signal(number)
    assert process.wait(timeout=60) == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_nodes_do_not_outlive_a_killed_launcher(tmp_path):
    process, pids = start_launcher(tmp_path)
    nodes = [psutil.Process(pid) for pid in pids]
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(nodes, timeout=60)
    assert alive == []


def test_a_reader_that_goes_away_does_not_keep_the_nodes(tmp_path):
    process, pids = start_launcher(tmp_path)
    process.stdout.close()
    threading.Timer(0.2, lambda: process.send_signal(signal.SIGINT)).start()
    process.wait(timeout=60)
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_command_line_gives_ros_the_parameters():
    spec = NodeSpec('policy', 'p', 'e', 'some.module', 'policy.yaml', {'skill': "it's 1", 'seed': 3, 'flag': True})
    line = command(spec)
    assert line[:3] == [sys.executable, '-m', 'some.module']
    assert '__ns:=/humanx' in line
    config = line[line.index('--params-file') + 1]
    assert os.path.isfile(config)
    assert line[-6:] == ['-p', "skill:='it''s 1'", '-p', 'seed:=3', '-p', 'flag:=true']


@pytest.mark.parametrize(
    ('value', 'text'), [(True, 'true'), (3, '3'), (0.5, '0.5'), ('1', "'1'"), ('a b', "'a b'"), (1e-9, '1e-09')]
)
def test_yaml_value(value, text):
    import yaml

    assert yaml_value(value) == text
    if not isinstance(value, float):
        assert yaml.safe_load(text) == value
