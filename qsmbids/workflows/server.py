"""The server that worker processes are forked from: it has imported what the steps need."""

import multiprocessing
from multiprocessing import forkserver

_OF_ALL = ('qsmbids.workflows.base', 'matplotlib.figure', 'matplotlib.backends.backend_agg')
_OF_NETWORKS = ('torch',)


def start_server(networks=False):
    """Start the server, unless it runs; it imports while the caller goes on.

    Must come after the environment is set, which the server takes as it is.

    Parameters
    ----------
    networks : bool
        Whether a step is done by a network.

    Returns
    -------
    multiprocessing.context.BaseContext
        For processes that it forks.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([*_OF_ALL, *(_OF_NETWORKS if networks else ())])
    forkserver.ensure_running()
    return context
