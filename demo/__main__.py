"""`python -m demo`: serve the demo on this machine."""
import argparse
import os
from types import FrameType

import uvicorn


class Server(uvicorn.Server):
    "A server that ends the open event streams first when it is told to stop: uvicorn would wait for them for ever."

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        from .app import app
        app.state.stopping = True
        super().handle_exit(sig, frame)


def main() -> None:
    "Read the command line and serve until interrupted."
    parser = argparse.ArgumentParser(prog='python -m demo', description='Read a scanned document while you watch.')
    parser.add_argument('--port', type=int, default=int(os.environ.get('PORT', 5001)))
    port = parser.parse_args().port
    from .app import app
    print(f'Open http://127.0.0.1:{port} (Ctrl-C stops it)', flush=True)
    try: Server(uvicorn.Config(app, port=port, log_level='warning', timeout_graceful_shutdown=5)).run()
    except KeyboardInterrupt: pass


if __name__ == '__main__': main()
