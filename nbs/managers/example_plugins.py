"""Plugins for the lessons on this page's manager. A worker imports them, so they live in a module."""
import os
import time


class Echo:
    def __init__(self, config): self.config = config

    def execute(self, **params): return {'text': params.get('text', ''), 'config': self.config}


class Poet:
    "Streams a line, word by word."
    def __init__(self, config): pass

    def execute(self, line): return line

    def execute_stream(self, line, pause=0.0):
        for word in line.split():
            yield word + ' '
            time.sleep(pause)


class Sleeper:
    "Does not listen to anybody."
    def __init__(self, config): pass

    def execute(self, seconds):
        time.sleep(seconds)
        return 'rested'


class Wreck:
    "Takes its process with it."
    def __init__(self, config): pass

    def execute(self, code=7):
        print("something is wrong with the engine", flush=True)
        os._exit(code)
