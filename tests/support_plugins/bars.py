"Plugins with `tqdm` bars, which know nothing of this library unless they say so."
import threading
from collections.abc import Iterator
from typing import Any

import tqdm.asyncio
import tqdm.auto
import tqdm.gui
import tqdm.std
from tqdm import tqdm as Bar

from cjm_fasthtml_workers.core.context import cancel_requested, report_progress


class Own(Bar):
    "As the one for notebooks: it shows itself in a way of its own, and not when it is made"
    def __init__(self, *args: Any, **kwargs: Any): super().__init__(*args, gui=True, **kwargs)
    def display(self, *args: Any, **kwargs: Any) -> None: pass

KINDS = {'std': tqdm.std.tqdm, 'auto': tqdm.auto.tqdm, 'asyncio': tqdm.asyncio.tqdm, 'own': Own}

class Bars:
    "Does what its parameter `act` names"
    def __init__(self, config: dict[str, Any]):
        self.left: Any = None
        self.stop = threading.Event()
        if config.get('shards'):
            for _ in Bar(range(config['shards']), desc='Loading shards'): pass

    def execute(self, act: str, **params: Any) -> Any: return getattr(self, act)(**params)

    def nested(self) -> None:
        for name in Bar(['a', 'b'], desc='Files'):
            for _ in Bar(range(3), desc=f'Pages of {name}', mininterval=0): pass

    def count(self, kind: str = 'std', **bar: Any) -> None:
        for _ in KINDS[kind](range(4), desc='Encoding', **bar): pass

    def search(self) -> None:
        for _ in Bar((n for n in range(5)), desc='Searching'): pass

    def disabled(self) -> None:
        with Bar(total=2, disable=True) as bar:
            bar.update()
            bar.set_description('Silence')

    def bytes(self) -> None:
        with Bar(total=10**7, unit='B', unit_scale=True) as bar: bar.update(10**7)

    def endless(self) -> None:
        for _ in Bar(range(10**12), desc='Encoding'):
            if cancel_requested(): return

    def leave_early(self) -> None:
        with Bar(total=4, desc='Looking') as bar:
            bar.update()
            bar.set_description('Found')
            bar.update()
        raise LookupError("no fifth one")

    def report(self) -> None:
        for _ in Bar(range(4), desc='Before'): pass
        report_progress(0.5, "in my own words")
        for _ in Bar(range(4), desc='After'): pass

    def in_threads(self) -> None:
        first = Bar(total=3, desc='First')
        others = [threading.Thread(target=self.count) for _ in range(4)]
        for thread in others: thread.start()
        for thread in others: thread.join()
        mine = threading.Thread(target=lambda: (first.update(3), first.close()))
        mine.start()
        mine.join()

    def leave_running(self) -> int:
        "A bar that moves on when the job is over"
        self.left = Bar(total=10**12, desc='Left behind')
        self.moves = 0
        def move() -> None:
            while not self.stop.wait(0.001):
                self.left.set_description(f'Left behind {self.moves}')   # a new description is always shown
                self.moves += 1
        threading.Thread(target=move, daemon=True).start()
        return self.moves

    def beside(self) -> int:
        "A job while it does"
        before = self.moves
        bar = Bar(total=2, desc='Beside')
        while self.moves < before + 20: self.stop.wait(0.001)
        bar.update(2)
        bar.close()
        self.stop.set()
        return self.moves - before

class Words(Bars):
    "The same, as a stream"
    def execute_stream(self, n: int) -> Iterator[str]:
        for i in Bar(range(n), desc='Words'): yield f'{i} '
