"""The table of methods: what the command line offers, what a node runs and what the report cites, in one place.

It imports nothing, so that ``qsmbids --help`` can list the choices without loading the numerics. To add a method, write
its function, a line here, a test, and its entry in ``data/boilerplate.bib``.
"""

from dataclasses import dataclass, field
from importlib import import_module
from inspect import Parameter, signature


@dataclass(frozen=True)
class Method:
    """A method of one processing step.

    Attributes
    ----------
    title : str
        What the methods text calls it.
    location : str
        ``module:function`` of its implementation, relative to ``qsmbids``.
    citations : tuple of str
        Keys of ``data/boilerplate.bib``.
    consensus : bool
        Whether the ISMRM consensus recommendation (Bilgic 2024) covers this kind of method.
    automatic : tuple of str
        The parameter that is chosen by the data if it is not given, and by which rule: a `penalty` of
        :func:`qsmbids.core.inversion.strength.automatic_strength`. Empty if there is none.
    companions : dict
        Maps that the function returns beside its own, with warnings, where ``companions=True`` is given: name to what
        they show.
    weights : str
        Trained weights that come with qsmbids and that the function cannot do without.
    takes_total : bool
        Whether an inversion is given the total field, and no background is removed for it.
    tight : bool
        Whether a brain mask ends where the brain does, so that the field is computed beyond it.
    """

    title: str
    location: str
    citations: tuple = ()
    consensus: bool = True
    automatic: tuple = ()
    companions: dict = field(default_factory=dict)
    weights: str = ''
    takes_total: bool = False
    tight: bool = False

    def load(self):
        """Import and return the function."""
        module, function = self.location.split(':')
        return getattr(import_module(f'qsmbids.{module}'), function)

    def arguments(self, chosen=None):
        """Return `chosen` as keyword arguments; names may leave out the underscore that Python asks of ``lambda_``.

        Raises
        ------
        ValueError
            If `chosen` names a parameter that the function does not have.
        """
        names = {name.rstrip('_'): name for name in self._tunable()}
        unknown = sorted(name for name in chosen or {} if name.rstrip('_') not in names)
        if unknown:
            raise ValueError(f'{self.title} has no parameter {", ".join(unknown)}; it has '
                             f'{", ".join(names) or "none"}')
        return {names[name.rstrip('_')]: value for name, value in (chosen or {}).items()}

    def settle(self, chosen, field, mask, voxel_size, b0_dir, weight=None):
        """Return `arguments`, with the automatic one chosen by the data unless `chosen` has it.

        Parameters
        ----------
        chosen : dict or None
        field, mask, voxel_size, b0_dir, weight
            Those that the function will be called with.
        """
        arguments = self.arguments(chosen)
        if self.automatic and arguments.get(self.automatic[0]) is None and field[mask].any():
            parameter, penalty = self.automatic
            choose = import_module('qsmbids.core.inversion.strength').automatic_strength
            arguments[parameter] = choose(field, mask, voxel_size, b0_dir=b0_dir, weight=weight,
                                          penalty=arguments.get('regularization', penalty))
        return arguments

    def parameters(self, chosen=None):
        """Return every tuning parameter of the function with the value that a call with `chosen` uses."""
        values = self._tunable() | self.arguments(chosen)
        return {name.rstrip('_'): value for name, value in values.items()}

    def takes(self, name):
        """Return whether the function has a parameter of that name, tuning or not."""
        return name in signature(self.load()).parameters

    def _tunable(self):
        return {name: p.default for name, p in signature(self.load()).parameters.items()
                if p.kind is Parameter.KEYWORD_ONLY and name not in GEOMETRY}


# Keyword arguments that say where and how the data lie, not how a method is tuned.
GEOMETRY = ('affine', 'b0_dir', 'companions', 'csf', 'echo_times', 'magnitude', 'voxel_size', 'weight')

MASKING = {
    'surface': Method('a deformable surface, after flattening of the receive field', 'core.masks:brain_mask',
                      ('smith2002',)),
    'network': Method('a deformable surface, after flattening of the receive field, whose border a network moved to '
                      'that of the brain', 'networks.masking:brain_mask_network', ('smith2002', 'billot2023'),
                      weights='brainborder', tight=True),
}
UNWRAPPING = {
    'romeo': Method('ROMEO path-based unwrapping', 'core.unwrap:unwrap_romeo', ('dymerska2021',)),
    'bestpath': Method('best-path unwrapping by scikit-image', 'core.unwrap:unwrap_bestpath',
                       ('abdulrahman2007', 'vanderwalt2014')),
    'laplacian': Method('Laplacian unwrapping', 'core.unwrap:unwrap_laplacian', ('schofield2003',), consensus=False),
}
BACKGROUND = {
    'pdf': Method('projection onto dipole fields (PDF)', 'core.background.pdf:remove_background_pdf', ('liu2011',)),
    'vsharp': Method('V-SHARP', 'core.background.sharp:remove_background_vsharp', ('schweser2011', 'wu2012')),
    'resharp': Method('RESHARP', 'core.background.resharp:remove_background_resharp', ('sun2014',)),
    'lbv': Method('the Laplacian boundary value method (LBV)',
                  'core.background.lbv:remove_background_lbv', ('zhou2014',),
                  consensus=False),
    'sharp': Method('SHARP', 'core.background.sharp:remove_background_sharp', ('schweser2011',)),
    'ismv': Method('iterative spherical mean value filtering (iSMV)', 'core.background.resharp:remove_background_ismv',
                   ('wen2014',)),
    'pocsnet1': Method('POCSnet1, a network and projections on the measured field in turns',
                       'networks.background:remove_background_pocsnet1', ('wang2022', 'sun2014'), consensus=False,
                       weights='pocsnet1'),
}
INVERSION = {
    'tv': Method('total-variation regularised inversion by ADMM', 'core.inversion.variational:invert_tv',
                 ('bilgic2014tv', 'boyd2011'), automatic=('lambda_', 'tv')),
    'nltv': Method('nonlinear total-variation regularised inversion (FANSI)', 'core.inversion.nonlinear:invert_nltv',
                   ('milovic2018',), automatic=('lambda_', 'tv')),
    'whqsm': Method('weak-harmonic nonlinear total-variation regularised inversion',
                    'core.inversion.nonlinear:invert_whqsm', ('milovic2018', 'milovic2019'),
                    automatic=('lambda_', 'tv')),
    'medi': Method('morphology enabled dipole inversion (MEDI)', 'core.inversion.medi:invert_medi', ('liu2013',),
                   automatic=('lambda_', 'tv')),
    'medi0': Method('morphology enabled dipole inversion with uniform fluid (MEDI+0)',
                    'core.inversion.medi:invert_medi0',
                    ('liu2013', 'liu2018'), automatic=('lambda_', 'tv')),
    'star': Method('two-level total variation against streaks (STAR-QSM)',
                   'core.inversion.star:invert_star', ('wei2015',),
                   automatic=('lambda_', 'tv')),
    'hdqsm': Method('total variation with hybrid data fidelity (HD-QSM)', 'core.inversion.hdqsm:invert_hdqsm',
                    ('lambert2022',), automatic=('lambda_', 'tv')),
    'tgv': Method('total generalised variation (TGV)', 'core.inversion.tgv:invert_tgv', ('langkammer2015',),
                  automatic=('lambda_', 'tv')),
    'rts': Method('rapid two-step inversion (RTS)', 'core.inversion.lsqr:invert_rts', ('kames2018',),
                  automatic=('lsqr_iterations', 'lsqr')),
    'ilsqr': Method('least squares with streak estimation (iLSQR)', 'core.inversion.ilsqr:invert_ilsqr', ('li2015',),
                    consensus=False),
    'ndi': Method('nonlinear dipole inversion (NDI)', 'core.inversion.ndi:invert_ndi', ('polak2020',), consensus=False,
                  automatic=('iterations', 'descent')),
    'tikhonov': Method('closed-form Tikhonov inversion', 'core.inversion.direct:invert_tikhonov', ('bilgic2014',),
                       consensus=False, automatic=('lambda_', 'identity')),
    'tkd': Method('thresholded k-space division (TKD)',
                  'core.inversion.direct:invert_tkd', ('shmueli2009', 'schweser2013'),
                  consensus=False),
    'tsvd': Method('truncated singular value decomposition (TSVD)',
                   'core.inversion.direct:invert_tsvd', ('wharton2010',),
                   consensus=False),
    'pocsnet2': Method('POCSnet2, a network and projections on the measured field in turns',
                       'networks.inversion:invert_pocsnet2', ('wang2022',), consensus=False,
                       automatic=('lambda_', 'identity'), weights='pocsnet2', companions={
                           'uncertainty': 'SD of the map of desc-pocsnet2 over ways to turn over its axes',
                           'departure': 'Map of desc-pocsnet2 minus its projection on the measured field'}),
    'dll2': Method('least squares with the map of POCSnet2 as their prior (DLL2)', 'networks.inversion:invert_dll2',
                   ('zhang2020', 'wang2022'), consensus=False, automatic=('lambda_', 'identity'), weights='pocsnet2'),
    'fine': Method('POCSnet2 with its weights fitted to the measured field (FINE)', 'networks.inversion:invert_fine',
                   ('zhang2020', 'wang2022'), consensus=False, automatic=('lambda_', 'identity'), weights='pocsnet2'),
    'deepqsm': Method('DeepQSM, a network from the local field to susceptibility', 'networks.inversion:invert_deepqsm',
                      ('bollmann2019',), consensus=False, weights='deepqsm'),
    'autoqsm': Method('autoQSM, a network from the total field to susceptibility', 'networks.direct:invert_autoqsm',
                      ('wei2019',), consensus=False, weights='autoqsm', takes_total=True),
}
RELAXOMETRY = {
    'arlo': Method('ARLO', 'core.relaxometry:fit_arlo', ('pei2015',)),
    'loglinear': Method('a weighted log-linear fit', 'core.relaxometry:fit_loglinear'),
    'nonlinear': Method('a nonlinear fit that knows of the Rician noise floor', 'core.relaxometry:fit_nonlinear',
                        ('gudbjartsson1995',)),
}
SWI = {
    'clear': Method('susceptibility weighting as in CLEAR-SWI', 'core.swi:weight_by_susceptibility',
                    ('eckstein2021', 'haacke2004')),
}
SEPARATION = {
    'voxelwise': Method('voxelwise chi separation', 'core.separation:separate_sources', ('shin2021',)),
}
OFFSETS = {
    'mcpc3ds': Method('MCPC-3D-S phase offset removal', 'core.fieldmap:phase_offset_mcpc3ds', ('eckstein2018',)),
    'none': Method('no phase offset removal', ''),
}
ECHO_FITS = {
    'nonlinear': Method('a nonlinear complex fit over echoes', 'core.fieldmap:fit_field_nonlinear',
                        ('liu2013', 'biondetti2022')),
    'linear': Method('a weighted linear fit over echoes', 'core.fieldmap:fit_field_linear'),
}
BIPOLAR = ('auto', 'yes', 'no')
PHASE_SIGNS = ('auto', '+', '-')
WEIGHTINGS = ('none', 'residual', 'certainty')
REFERENCES = ('wholebrain', 'csf', 'none')

# Settings that go together. Consensus: the example pipeline of the recommended implementation (Bilgic 2024), with what
# the methods have as defaults: V-SHARP from 12 to 1 mm, at most 400 iterations to a change of 0.1 %, beta 150. Its
# lambda of 5e-4 is for a field in rad; ours are in ppm, of which the method's phase scale makes 20 rad.
PRESETS = {
    'none': {},
    'consensus': {
        'phase_offset': 'mcpc3ds', 'unwrapping': 'romeo', 'echo_fit': 'linear', 'mending': False,
        'mask_margin': 0.0, 'residual_threshold': 0.3, 'erosion': True, 'weighting': 'residual', 'background': 'vsharp',
        'inversion': ('whqsm',), 'inversion_lambda': 2.5e-5, 'reference': 'wholebrain'},
    # Networks for both steps, and beside their map that of the inversion that the consensus has.
    'deep': {'background': 'pocsnet1', 'inversion': ('pocsnet2', 'whqsm')},
    # Fluid is the one tissue that does not change while a brain grows; the census knows the lesions of adults.
    'pediatric': {'mask_method': 'network', 'reference': 'csf', 'microbleeds': False},
}


def departures(settings):
    """Return what of its preset was set otherwise: names and values of `settings` (dict, a tuple or list alike).

    Examples
    --------
    >>> INVERSION['tkd'].parameters()
    {'threshold': 0.2, 'rescale': True}
    >>> INVERSION['tv'].parameters({'lambda': 1e-3})
    {'lambda': 0.001, 'tol': 0.002, 'max_iterations': 60}
    >>> departures({'preset': 'deep', 'background': 'pdf', 'inversion': ('pocsnet2', 'whqsm')})
    {'background': 'pdf'}
    """
    return {name: settings[name] for name, value in PRESETS[settings['preset']].items()
            if settings[name] not in (value, list(value) if isinstance(value, tuple) else value)}
