import numpy as np
import pytest
from scipy.sparse.linalg import lsqr

from qsmbids.core.krylov import conjugate_gradients, image_least_squares

SHAPE = (5, 4, 6)
COUNT = int(np.prod(SHAPE))


def matrix(rows=COUNT, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, COUNT)).astype(np.float32)


def volume(seed=1):
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


def applied(square):
    return lambda given: (square @ given.ravel()).reshape(SHAPE)


def test_conjugate_gradients_solve_symmetric_equations():
    a = matrix()
    square, right = a.T @ a / COUNT + np.eye(COUNT, dtype=np.float32), volume()
    found = conjugate_gradients(applied(square), right.copy(), 1e-6, 200)
    assert found.dtype == np.float32
    assert np.allclose(square @ found.ravel(), right.ravel(), atol=1e-4)


def test_conjugate_gradients_take_any_layout_of_memory():
    square, right = np.diag(np.arange(1, COUNT + 1)).astype(np.float32), volume()
    turned = np.ascontiguousarray(right.T).T

    def operator(given):
        return np.ascontiguousarray(applied(square)(given).T).T

    assert np.array_equal(conjugate_gradients(operator, turned, 1e-3, 20),
                          conjugate_gradients(applied(square), right, 1e-3, 20))


@pytest.mark.parametrize('damping', [0, 0.5, 100])
@pytest.mark.parametrize('iterations', [1, 4, 9])
def test_the_iterates_are_those_of_lsqr(iterations, damping):
    a, data = matrix(), volume()
    expected = lsqr(a, data.ravel(), damp=np.sqrt(damping), atol=0, btol=0, iter_lim=iterations)[0]
    found = a.T @ image_least_squares(applied(a @ a.T), data.copy(), 0, iterations, damping).ravel()
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_least_squares_end_where_the_gradient_is_small():
    a, data = matrix() + 10 * np.eye(COUNT, dtype=np.float32), volume()
    calls = []

    def gram(given):
        calls.append(1)
        return applied(a @ a.T)(given)

    found = a.T @ image_least_squares(gram, data.copy(), 1e-2, 500, 1.).ravel()
    gradient = a.T @ (data.ravel() - a @ found) - found
    assert np.linalg.norm(gradient) < 2e-2 * np.linalg.norm(a.T @ data.ravel())
    assert len(calls) < 200


@pytest.mark.parametrize('wrong', [{'tol': 0}, {'max_iterations': 0}])
def test_bad_parameters(wrong):
    arguments = {'tol': 1e-3, 'max_iterations': 5} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        conjugate_gradients(applied(np.eye(COUNT)), volume(), **arguments)
    if 'max_iterations' in wrong:
        with pytest.raises(ValueError, match='max_iterations'):
            image_least_squares(applied(np.eye(COUNT)), volume(), **arguments)
