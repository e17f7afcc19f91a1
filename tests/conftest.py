import numpy as np
import pytest


@pytest.fixture(scope='session')
def sphere_truth():
    """A sphere of 1 ppm in nothing: its susceptibility, its analytic field, and the voxels that its surface touches."""
    def build(shape, voxel_size, radius, b0_dir, margin=None, subsamples=5):
        grids = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, voxel_size)]
        offsets = (np.arange(subsamples) + 0.5) / subsamples - 0.5
        chi = np.zeros(shape)
        for i in offsets:
            for j in offsets:
                for k in offsets:
                    x, y, z = np.meshgrid(grids[0] + i * voxel_size[0], grids[1] + j * voxel_size[1],
                                          grids[2] + k * voxel_size[2], indexing='ij', sparse=True)
                    chi += x ** 2 + y ** 2 + z ** 2 <= radius ** 2
        chi /= subsamples ** 3
        x, y, z = np.meshgrid(*grids, indexing='ij', sparse=True)
        distance = np.sqrt(x ** 2 + y ** 2 + z ** 2)
        b = np.asarray(b0_dir, float) / np.linalg.norm(b0_dir)
        along = (x * b[0] + y * b[1] + z * b[2]) / np.maximum(distance, 1e-9)
        outside = radius ** 3 / 3 * (3 * along ** 2 - 1) / np.maximum(distance, 1e-9) ** 3
        analytic = np.where(distance < radius, 0, outside)
        edge = np.abs(distance - radius) < (1.5 * max(voxel_size) if margin is None else margin)
        return chi.astype(np.float32), analytic, edge
    return build
