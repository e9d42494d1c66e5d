"""Being told to stop while the main thread is anywhere."""

import subprocess
import sys

_PROGRAM = """
import os, signal, threading, time
from humanx_description.interrupts import StopRequest

stop = StopRequest()
assert not stop()
main = threading.main_thread().ident

def tell():
    for _ in range(2000):
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.0001)

teller = threading.Thread(target=tell)
teller.start()
asked = 0
while teller.is_alive():
    asked += stop()
    time.sleep(0.00005)
assert stop() and asked > 10
print('done')
"""


def test_signals_at_any_moment_are_heard_and_hold_nothing_up() -> None:
    done = subprocess.run([sys.executable, '-c', _PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.stdout == 'done\n', done.stderr


def test_a_held_signal_is_heard_on_release() -> None:
    program = (
        'import os, signal; from humanx_description import interrupts\n'
        'interrupts.hold(); os.kill(os.getpid(), signal.SIGINT)\n'
        'print(interrupts.StopRequest()())'
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=60)
    assert done.stdout == 'True\n', done.stderr
