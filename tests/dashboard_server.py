"""The app of `dashboard_app` as a process of its own, for the tests that talk to it."""
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).parent.parent


def wait_until(condition, seconds: float, what: str) -> None:
    "Wait until `condition()` is true, or fail."
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'waited {seconds} s in vain for {what}'
        time.sleep(.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


HOLDS: list[Path] = []   # removed after each test, however it ends


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    yield
    while HOLDS: HOLDS.pop().unlink(missing_ok=True)


class DashboardServer:
    "A running app."
    def __init__(self, folder: Path, port: int, *flags: str):
        self.url, self.output, self.folder = f'http://127.0.0.1:{port}', folder/f'output-{time.monotonic_ns()}', folder
        command = [sys.executable, '-m', 'tests.dashboard_app', '--port', str(port), *flags]
        with self.output.open('w') as out:
            self.popen = subprocess.Popen(command, cwd=ROOT, env=os.environ | {'PYTHONPATH': str(ROOT)},
                                          stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def answers(self) -> bool:
        try: return httpx.get(f'{self.url}/own').status_code < 500
        except httpx.TransportError: return False

    def said(self) -> str: return self.output.read_text()

    def worker(self) -> psutil.Process:
        "The process that runs the plugins: the one that a running job names."
        pids = {w['pid'] for w in httpx.get(f'{self.url}/stats').json()['workers']}
        return psutil.Process(pids.pop())

    def start(self, plugin: str, **params) -> dict:
        "Start a job; its id and the address of its page."
        return httpx.post(f'{self.url}/start/{plugin}', json=params, timeout=20).json()

    def hold(self, **params) -> tuple[dict, Path]:
        "Start a `talker` that goes on only when the file is removed."
        file = self.folder/f'hold-{time.monotonic_ns()}'
        HOLDS.append(file)
        file.touch()
        return self.start('talker', hold=str(file), **params), file

    def status(self, job: dict) -> str: return httpx.get(f"{self.url}/job/{job['id']}").json()['status']

    def wait_for(self, job: dict, *statuses: str) -> str:
        wait_until(lambda: self.status(job) in statuses, 30, f'{statuses}: {self.said()}')
        return self.status(job)

    def stop(self, sig: int = signal.SIGINT) -> None:
        "Stop it as a user would; nothing is left, and nothing was wrong."
        if self.popen.poll() is not None: return
        family = psutil.Process(self.popen.pid).children(recursive=True)
        self.popen.send_signal(sig)
        try: self.popen.wait(20)
        finally:
            self.popen.kill()
            self.popen.wait()
        wait_until(lambda: not any(p.is_running() for p in family), 10, 'the workers to end')
        assert 'Traceback' not in self.said(), self.said()


@contextmanager
def serve_dashboard(
    folder: Path,  # For its output
    *flags: str,  # Of `dashboard_app`
    port: int = 0  # 0: any that is free
) -> Iterator[DashboardServer]:
    "Start the app, and stop it in the end."
    server = DashboardServer(folder, port or free_port(), *flags)
    try:
        wait_until(lambda: server.popen.poll() is not None or server.answers(), 60, 'the app to answer')
        assert server.popen.poll() is None, server.said()
        yield server
    finally: server.stop()
