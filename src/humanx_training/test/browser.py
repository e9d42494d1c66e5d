"""A few lines of Chrome DevTools protocol: enough to open a page, run JavaScript in it and wait for something."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

_HELPERS = """
window.hx = {
  leaf: (text) => [...document.querySelectorAll('*')].find(
    e => e.childElementCount === 0 && e.textContent.trim() === text),
  click: (text) => { const b = [...document.querySelectorAll('button')].find(
    e => e.textContent.trim() === text); if (!b) return false; b.click(); return true; },
  set: (label, value) => {
    let e = window.hx.leaf(label);
    while (e && !e.querySelector('input')) e = e.parentElement;
    if (!e) return false;
    const input = e.querySelector('input');
    input.focus();
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, value);
    input.dispatchEvent(new Event('input', {bubbles: true}));
    input.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));
    input.blur();
    return true;
  },
}; true
"""


def chromium() -> str | None:
    """Return the browser's path, or None."""
    return next((p for n in ('chromium', 'chromium-browser', 'google-chrome') if (p := shutil.which(n))), None)


class Browser:
    """A headless Chromium with one page; a context manager."""

    def __init__(self, url: str, profile: Path, size: tuple[int, int] = (480, 640)) -> None:
        binary = chromium()
        assert binary is not None
        self._process = subprocess.Popen(
            [binary, '--headless=new', '--no-sandbox', '--disable-gpu', '--enable-unsafe-swiftshader',
             '--no-first-run', f'--window-size={size[0]},{size[1]}',
             '--disable-background-networking', '--remote-debugging-port=0',
             f'--user-data-dir={profile}', url],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port = self._port(profile / 'DevToolsActivePort')
        page = self._page(port)
        self._socket = connect(page, max_size=None, open_timeout=60)
        self._count = 0

    @staticmethod
    def _port(path: Path) -> int:
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            if path.exists() and path.read_text().strip():
                return int(path.read_text().splitlines()[0])
            time.sleep(0.1)
        raise TimeoutError('the browser did not open its port')

    @staticmethod
    def _page(port: int) -> str:
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/json', timeout=30) as answer:
                for target in json.load(answer):
                    if target['type'] == 'page':
                        return target['webSocketDebuggerUrl']
            time.sleep(0.2)
        raise TimeoutError('the browser opened no page')

    def run(self, script: str):
        """Return the JSON value of a JavaScript expression."""
        # The helpers go with every call: a page that was not loaded yet has lost them.
        script = f'{_HELPERS};\n{script}'
        answer = self._call('Runtime.evaluate', expression=script, returnByValue=True)
        return answer['result'].get('value')

    def _call(self, method: str, **params) -> dict:
        self._count += 1
        self._socket.send(json.dumps({'id': self._count, 'method': method, 'params': params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=120))
            if answer.get('id') == self._count:
                return answer['result']

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 6) -> None:
        """Press the left button at ``start`` (CSS pixels), move to ``end`` and let go."""
        def mouse(kind: str, x: float, y: float, buttons: int) -> None:
            pressed = buttons or kind != 'mouseMoved'
            self._call(
                'Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left' if pressed else 'none', buttons=buttons,
                clickCount=1 if kind != 'mouseMoved' else 0,
            )  # fmt: skip
            time.sleep(0.15)  # the page looks for what is under the pointer frame by frame

        mouse('mouseMoved', *start, 0)
        mouse('mousePressed', *start, 1)
        for step in range(1, steps + 1):
            mouse('mouseMoved', *(a + (b - a) * step / steps for a, b in zip(start, end)), 1)
        mouse('mouseReleased', *end, 0)

    def picture(self, path: Path) -> None:
        """Write what the page shows as a PNG."""
        import base64

        path.write_bytes(base64.b64decode(self._call('Page.captureScreenshot', format='png')['data']))

    def wait(self, script: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if self.run(script):
                return
            time.sleep(0.2)
        raise TimeoutError(f'{script!r} stayed false; the page says: {self.run("document.body.innerText")!r}')

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=20)
