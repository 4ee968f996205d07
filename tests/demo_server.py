"""The demo as a process of its own, for the tests that talk to it."""
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parent.parent


@dataclass
class DemoServer:
    "A running demo."
    url: str
    process: psutil.Process

    def worker(self) -> psutil.Process:
        "The process that holds the model: by far the largest child."
        return max(self.process.children(recursive=True), key=lambda child: child.memory_info().rss)

    @contextmanager
    def standstill(self) -> Iterator[None]:
        "Stop the worker meanwhile: what runs, runs on afterwards."
        worker = self.worker()
        worker.suspend()
        try: yield
        finally: worker.resume()


@contextmanager
def serve_demo(
    folder: Path,  # Where the server puts its temporary files, and its output
    line_pause: float = 0,  # Seconds after each line
    port: int = 0,  # 0: any that is free
) -> Iterator[DemoServer]:
    "Start the demo, stop it as a user would, and check that it leaves nothing behind."
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(('127.0.0.1', port))
        port = probe.getsockname()[1]
    temporary = folder/'tmp'
    temporary.mkdir()
    env = os.environ | {'DEMO_LINE_PAUSE': str(line_pause), 'TMPDIR': str(temporary)}
    with (folder/'output.txt').open('w') as output:
        popen = subprocess.Popen([sys.executable, '-m', 'demo', '--port', str(port)], cwd=ROOT, env=env,
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    server = DemoServer(f'http://127.0.0.1:{port}', psutil.Process(popen.pid))
    family: list[psutil.Process] = []
    try:
        wait_until(lambda: popen.poll() is not None or answers(server.url), 60, 'the demo to answer')
        assert popen.poll() is None, (folder/'output.txt').read_text()
        yield server
        family = server.process.children(recursive=True)
        popen.send_signal(signal.SIGINT)
        popen.wait(30)
    finally:
        popen.kill()
        popen.wait()
    wait_until(lambda: not any(child.is_running() for child in family), 10, 'the children of the demo to end')
    assert not list(temporary.iterdir())
    assert 'Traceback' not in (folder/'output.txt').read_text(), (folder/'output.txt').read_text()


def answers(url: str) -> bool:
    "Whether there is a server at `url`."
    try: return httpx.get(url).status_code == 200
    except httpx.TransportError: return False


def wait_until(condition, seconds: float, what: str) -> None:
    "Wait until `condition()` is true, or fail."
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'waited {seconds} s in vain for {what}'
        time.sleep(.02)
