"""An inversion by its name: with what it can use beside the field, and with the strength that the data ask for."""

from dataclasses import dataclass

import numpy as np

from qsmbids.core.methods import INVERSION


@dataclass(frozen=True)
class Solution:
    """A susceptibility map and how it was computed.

    Attributes
    ----------
    chi : ndarray, float32, shape (nx, ny, nz)
        ppm.
    parameters : dict
        Every tuning parameter of the method with the value that was used.
    automatic : tuple of str
        Those of them that the data chose.
    companions : dict of ndarray
        Maps that the method makes beside its own.
    warnings : tuple of str
        Why the map may be worse than others of the method.
    """

    chi: np.ndarray
    parameters: dict
    automatic: tuple
    companions: dict
    warnings: tuple


def solve(name, field, mask, voxel_size, *, b0_dir=(0., 0., 1.), weight=None, magnitude=None, csf=None,
          parameters=None):
    """Compute susceptibility from the field.

    Parameters
    ----------
    name : str
        In :data:`qsmbids.core.methods.INVERSION`.
    field : ndarray, shape (nx, ny, nz)
        Local field in ppm; the total field for a method that takes it.
    mask : ndarray of bool, shape (nx, ny, nz)
        Where the field is known.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float, default (0, 0, 1)
        Unit vector of the main field in voxel axes.
    weight : ndarray, shape (nx, ny, nz), optional
        How much each voxel counts, 0 to 1; a method that cannot weigh goes without.
    magnitude : ndarray, shape (nx, ny, nz), optional
        In any unit, for a method that takes edges from it.
    csf : ndarray of bool, shape (nx, ny, nz), optional
        Ventricular fluid, for a method that makes it uniform.
    parameters : dict, optional
        Tuning parameters other than their defaults.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If `parameters` names one that the method does not have, or for any input that the method refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.core.dipole import forward_field
    >>> chi = np.zeros((32, 32, 32), np.float32)
    >>> chi[12:20, 12:20, 12:20] = .1
    >>> mask = np.ones(chi.shape, bool)
    >>> field = forward_field(chi, (1, 1, 1))
    >>> found = solve('tikhonov', field, mask, (1, 1, 1))
    >>> found.automatic, found.parameters['regularization']
    (('lambda',), 'identity')
    >>> solve('tkd', field, mask, (1, 1, 1), parameters={'threshold': .1}).parameters
    {'threshold': 0.1, 'rescale': True}
    >>> solve('tkd', field, mask, (1, 1, 1), parameters={'strength': .1})
    Traceback (most recent call last):
        ...
    ValueError: thresholded k-space division (TKD) has no parameter strength; it has threshold, rescale
    """
    method = INVERSION[name]
    used = {name: volume for name, volume in (('weight', weight), ('magnitude', magnitude), ('csf', csf))
            if volume is not None and method.takes(name)}
    arguments = method.settle(parameters, field, mask, voxel_size, b0_dir, used.get('weight'))
    found = method.load()(field, mask, voxel_size, b0_dir=b0_dir, **used, **arguments,
                          **({'companions': True} if method.companions else {}))
    chi, companions, warnings = found if method.companions else (found, {}, ())
    given = method.arguments(parameters)
    automatic = (key.rstrip('_') for key, value in arguments.items() if value is not None and given.get(key) is None)
    return Solution(chi, method.parameters(arguments), tuple(sorted(automatic)), companions, tuple(warnings))
