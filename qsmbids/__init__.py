"""Quantitative susceptibility mapping for BIDS data sets."""

__version__ = '0.1.0'
__all__ = ['QSMResult', '__version__', 'reconstruct']


def __getattr__(name):
    # The numerics take half a second to import; the command line must answer before that.
    if name in ('reconstruct', 'QSMResult'):
        from importlib import import_module
        return getattr(import_module('qsmbids.core.reconstruct'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
