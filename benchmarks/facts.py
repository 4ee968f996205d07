"""What a reader must know of the machine; nothing that says whose it is."""
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = ('cjm-fasthtml-workers', 'pebble', 'loky', 'ray', 'numpy', 'pandas', 'python-fasthtml')


def processor() -> str:
    "The model, as the system calls it."
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((s.partition(':')[2].strip() for s in lines if s.startswith('model name')), platform.processor())


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try: found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError: pass
    return found


def machine() -> dict[str, object]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return {'processor': processor(), 'cores': cores, 'system': f'{platform.system()} {platform.machine()}',
            'python': f'{platform.python_implementation()} {platform.python_version()}',
            'load_before': round(os.getloadavg()[0], 2), 'versions': versions()}


def moment(machine: dict[str, object]) -> dict[str, object]:
    "When a row was measured, and with what. The load is that before the command: later there is its own."
    return {'date': f'{datetime.datetime.now(datetime.UTC):%Y-%m-%d}', 'load_before': machine['load_before'],
            'versions': machine['versions']}


def differences(a: dict[str, object], b: dict[str, object]) -> list[str]:
    "What makes the numbers of one machine no match for those of the other."
    return [f'{a[k]}, not {b[k]}' for k in ('processor', 'cores', 'system', 'python') if a[k] != b[k]]
