import pytest

from qsmbids.core.threads import use_threads


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Small volumes gain nothing from a second thread, and on a busy machine they wait for it."""
    with use_threads(1):
        yield
