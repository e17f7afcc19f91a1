import numpy as np
import pytest

from qsmbids.core.threads import use_threads


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Small volumes gain nothing from a second thread, and on a busy machine they wait for it."""
    with use_threads(1):
        yield


@pytest.fixture(scope='session')
def paint():
    """Paint a ball with a rim of a voxel, or a tube along the third axis, of contrast 1."""
    def ball(shape, centre, radius, steps=(1., 1., 1.), stretch=0.):
        grids = np.ogrid[tuple(map(slice, shape))]
        x, y, z = ((grid - middle) * step for grid, middle, step in zip(grids, centre, steps))
        distance = np.sqrt(x ** 2 + y ** 2 + np.maximum(np.abs(z) - stretch, 0) ** 2)
        return np.clip((radius - distance) / min(steps) + .5, 0, 1).astype(np.float32)
    return ball
