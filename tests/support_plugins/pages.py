"""Plugins for the tests of the pages."""
import logging
import os
import signal
import time

from cjm_fasthtml_workers.core.context import report_progress


class Talker:
    "Streams numbered words, as fast as it is told; from number `at` on, while `hold` does not exist."

    def __init__(self, config): self.config = config

    def execute_stream(self, count=20, pause=0.02, hold=None, words=None, at=0):
        for n in range(count):
            while hold and n >= at and os.path.exists(hold): time.sleep(0.01)
            report_progress((n + 1) / count, f'word {n + 1} of {count}')
            if n % 5 == 0: print(f'line for word {n}', flush=True)
            yield words[n] if words else f'w{n} '
            time.sleep(pause)
        return {'text': 'told', 'count': count}

    def execute(self, **params): return {'text': ''.join(self.execute_stream(**params))}


class Boom:
    "Fails, and says in its error and its log what it should not."

    def __init__(self, config): self.config = config

    def execute(self, message='it broke', log='about to break'):
        logging.getLogger('boom').warning(log)
        raise ValueError(message)


class Stuck:
    "Neither streams nor obeys."

    def __init__(self, config): pass

    def execute(self, **params):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: time.sleep(1)


class Silent:
    "Has a result and nothing else."

    def __init__(self, config): pass

    def execute(self, word=''): return {'answer': f'{word} {word}'}


class Echo:
    "Says what it is told, everywhere."

    def __init__(self, config): pass

    def execute_stream(self, text='', chunks=(), fails=False):
        print(text, flush=True)
        report_progress(0.5, text)
        if fails: raise ValueError(text)
        yield from chunks or (text,)
        return {'text': text, text: text}

    def execute(self, **params): return {'text': ''.join(self.execute_stream(**params))}
