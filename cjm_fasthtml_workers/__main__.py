"`python -m cjm_fasthtml_workers`. Beside `__init__`, the only module that no notebook makes: it has no code of its own."
import sys

from cjm_fasthtml_workers.cli import run_command

if __name__ == '__main__': sys.exit(run_command())
