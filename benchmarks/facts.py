"""What a reader must know of the machine; nothing that says whose it is."""
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
