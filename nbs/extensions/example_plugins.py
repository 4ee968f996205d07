"""A plugin for the lessons on these pages. A worker imports it, so it lives in a module."""
import time


class Poet:
    "Streams a line, word by word."
    def __init__(self, config): pass

    def execute(self, line): return line

    def execute_stream(self, line, pause=0.0):
        for word in line.split():
            yield word + ' '
            time.sleep(pause)
