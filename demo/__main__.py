"""`python -m demo`: serve the demo on this machine."""
import argparse
import os

import uvicorn


def main() -> None:
    "Read the command line and serve until interrupted."
    parser = argparse.ArgumentParser(prog='python -m demo', description='Read a scanned document while you watch.')
    parser.add_argument('--port', type=int, default=int(os.environ.get('PORT', 5001)))
    port = parser.parse_args().port
    from .app import app
    print(f'Open http://127.0.0.1:{port} (Ctrl-C stops it)', flush=True)
    uvicorn.run(app, port=port, log_level='warning', timeout_graceful_shutdown=5)


if __name__ == '__main__': main()
