"""A workflow that carries the sentences of the methods text beside the nodes that they describe."""

from nipype.pipeline import engine as pe


class DescribedWorkflow(pe.Workflow):
    """A nipype workflow with a ``__desc__``: markdown with ``[@key]`` citations."""

    __desc__ = ''

    def methods_text(self):
        """Return the descriptions of this workflow and of those in it, each sentence once, in the order of addition."""
        return ' '.join(dict.fromkeys(text for text in self._descriptions() if text))

    def _descriptions(self):
        yield self.__desc__.strip()
        for node in self._graph.nodes():
            if isinstance(node, DescribedWorkflow):
                yield from node._descriptions()


def fields(*names, name):
    """Return an identity node, the port of a workflow."""
    from nipype.interfaces.utility import IdentityInterface
    return pe.Node(IdentityInterface(fields=list(names), mandatory_inputs=False), name=name)


def numeric_node(interface, name, *, buffers, voxels, threads=1, network_gb=0.):
    """Return a node for a numerical interface that states its needs.

    Parameters
    ----------
    interface : nipype interface
    name : str
    buffers : int
        Volumes of float32 that it holds at its peak.
    voxels : int
        Voxels of one volume.
    threads : int
        Threads that it uses.
    network_gb : float
        What a network and the library that runs it take beside the volumes.
    """
    if hasattr(interface.inputs, 'num_threads'):
        interface.inputs.num_threads = threads
    # What a worker process takes before any data: the interpreter, numpy, scipy, numba, nipype.
    return pe.Node(interface, name=name, mem_gb=0.3 + network_gb + buffers * voxels * 4e-9, n_procs=threads)
