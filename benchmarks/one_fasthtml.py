"""As `benchmarks.one`, in an app: this main script imports fasthtml, and so do workers that import it again."""
import sys

from fasthtml.common import fast_app  # noqa: F401

from benchmarks.one import main

if __name__ == '__main__': main(*sys.argv[1:])
