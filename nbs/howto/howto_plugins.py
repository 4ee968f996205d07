"""Plugins for the how-to pages. A worker imports them, so they live in a module."""
import time


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


class Napper:
    "Does nothing for a while."
    def __init__(self, config): pass

    def execute(self, seconds):
        time.sleep(seconds)
        return {'text': 'rested'}
