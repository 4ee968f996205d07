"""The limit: two pipes, pickle, and a caller that blocks its event loop until the answer is there."""
import multiprocessing

from benchmarks import work
from benchmarks.systems.base import System


class Pipe(System):
    def __init__(self, workers=1, start_method='spawn', preload=()):
        super().__init__(workers)
        self.context = multiprocessing.get_context(start_method)
        if preload: self.context.set_forkserver_preload(list(preload))

    async def open(self):
        self._start()
        self.exits.callback(self._stop)

    def _start(self):
        ctx = self.context
        requests, self.send = ctx.Pipe(duplex=False)
        self.recv, replies = ctx.Pipe(duplex=False)
        self.process = ctx.Process(target=work.serve_pipe, args=(requests, replies), daemon=True)
        self.process.start()
        for end in (requests, replies): end.close()   # a worker that dies is then an EOF

    def _stop(self):
        self.send.send(None)
        self.process.join()

    async def call(self, plugin, **params):
        self.send.send((plugin, params, False))
        return self.recv.recv()

    async def call_many(self, plugin, many, outstanding):
        "What is outstanding must fit into the pipes; else both sides would wait for each other."
        results, sent = [], 0
        for params in many:
            if sent - len(results) >= outstanding: results.append(self.recv.recv())
            self.send.send((plugin, params, False))
            sent += 1
        return results + [self.recv.recv() for _ in range(sent - len(results))]

    async def stream(self, plugin, **params):
        self.send.send((plugin, params, True))
        while (chunk := self.recv.recv()) is not None: yield chunk

    async def start(self, plugin, **params): self.send.send((plugin, params, False))

    async def wait_lost(self, job):
        try: self.recv.recv()
        except EOFError: return
        raise RuntimeError("it has not died")

    async def revive(self):
        self.process.join()
        for end in (self.send, self.recv): end.close()
        self._start()

    async def start_busy(self): self.send.send(('busy', {}, False))

    async def cancel(self, job):
        self.process.kill()
        await self.revive()
