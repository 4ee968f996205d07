"""The first worker of an app."""
import psutil

from benchmarks.measure import now
from benchmarks.rows.base import Entry, Goal, Row

FASTHTML = 'benchmarks.one_fasthtml'


async def measure(entry: Entry, size: int) -> dict[str, float]:
    system, start = entry.make(), now()
    async with system:
        pid = (await system.call('pid'))['pid']
        taken, memory = now() - start, psutil.Process(pid).memory_full_info()
    numbers = {'to the first result': taken * 1e3, 'own memory, MB': memory.uss / 1e6}
    if hasattr(memory, 'pss'): numbers['with its share of what is shared, MB'] = memory.pss / 1e6   # not on macOS
    return numbers


OURS = {'plugins': ('echo', 'pid')}
ROW = Row(
    'start', "First start under a main script that imports fasthtml", 'ms',
    "A fresh app gives its first job; the worker has to be made. `multiprocessing` imports the app's main script in "
    "every worker, and all that it imports. Own memory is what would be free if the worker ended.",
    (Entry('ours', OURS, script=FASTHTML),
     Entry('ours', OURS, 'ours_empty', 'ours, empty main script'),
     Entry('pipe', {}, 'spawn', 'bare spawn', script=FASTHTML),
     Entry('pipe', {}, 'spawn_empty', 'bare spawn, empty main script'),
     *(Entry(name, script=FASTHTML) for name in ('executor', 'pebble', 'loky'))),
    measure, size=1, smallest=1, rounds=5, missing={'ray': "it starts a cluster of its own first"},
    goals=(Goal("1.3 times a bare spawn under an empty main script", 'spawn_empty', 1 / 1.3),
           Goal("aim: no slower than that", 'spawn_empty', 1.0),
           Goal("10 MB of own memory", limit=10.0, metric='own memory, MB'),
           Goal("aim: 7 MB of own memory", limit=7.0, metric='own memory, MB')),
)
