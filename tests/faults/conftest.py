"For the run of all fault tests: where their cases are forked from."
import os
import sys
from collections.abc import Iterator

import pytest

from tests.faults.harness import Fork, Nursery


@pytest.fixture(scope='session', autouse=True)
def _nursery(_steady: None) -> Iterator[None]:
    if sys.platform != 'linux' or os.environ.get('FAULTS_EXEC'):
        yield
        return
    Fork.nursery = Nursery()
    yield
    Fork.nursery.close()
    Fork.nursery = None
