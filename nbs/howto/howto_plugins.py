"""Plugins for the how-to pages. A worker imports them, so they live in a module."""
import time
import wave
from array import array

from cjm_fasthtml_workers.core.context import report_progress


class Chat:
    "Stands in for a language model: an answer, word by word."
    def __init__(self, config): pass   # load the model here

    def execute_stream(self, question, pause=0.01):
        for word in f'You asked: {question} That is a good question.'.split():
            yield word + ' '
            time.sleep(pause)

    def execute(self, **params): return ''.join(self.execute_stream(**params))


class Trainer:
    "Somebody's loop, with somebody's progress bar. It knows nothing of this library."
    def __init__(self, config): pass

    def execute(self, epochs=3, steps=20):
        from tqdm import tqdm
        for epoch in tqdm(range(epochs), desc='Training'):
            for _ in tqdm(range(steps), desc=f'Epoch {epoch + 1}', leave=False): time.sleep(0.002)
        return {'text': f'{epochs} epochs done'}


class Listener:
    "Stands in for a speech recogniser: hears a sound file second by second."
    def __init__(self, config): self.pause = config.get('pause', 0.02)   # load the model here

    def execute_stream(self, path):
        with wave.open(path) as sound:
            seconds = -(-sound.getnframes() // sound.getframerate())
            for n in range(seconds):
                yield self.hear(n, sound.readframes(sound.getframerate()))
                report_progress((n + 1) / seconds, f'{n + 1} of {seconds} seconds')

    def hear(self, n, frames):
        time.sleep(self.pause)
        what = 'a tone' if max(array('h', frames)) > 1000 else 'silence'
        return f'{n // 60}:{n % 60:02} {what}\n'

    def execute(self, **params): return ''.join(self.execute_stream(**params))


class Napper:
    "Does nothing for a while."
    def __init__(self, config): pass

    def execute(self, seconds):
        time.sleep(seconds)
        return {'text': 'rested'}
