"Plugins that import `tqdm` late, or not at all."
import sys
from typing import Any


class Late:
    def __init__(self, config: dict[str, Any]): pass
    def execute(self) -> dict[str, Any]:
        was_there = 'tqdm' in sys.modules
        from tqdm import trange
        for _ in trange(4, desc='Encoding'): pass
        return {'was_there': was_there}

class Without:
    def __init__(self, config: dict[str, Any]): pass
    def execute(self) -> dict[str, Any]: return {'was_there': 'tqdm' in sys.modules}
