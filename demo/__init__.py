"Read a scanned document while you watch: the demo of cjm-fasthtml-workers. Start it with `python -m demo`."
