"""Regions of the brain, and the values of the maps in them."""

from qsmbids.interfaces.atlas import AtlasRegions, RegisterTemplate, ToTemplate
from qsmbids.interfaces.subcortical import GivenRegions, NetworkRegions, RegionStatistics
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node

NETWORK_GB = 1.
_SAID = {'given': 'Deep nuclei were those of the segmentation {name}',
         'network': 'Deep nuclei were segmented by a convolutional network ({name})',
         'atlas': 'Deep nuclei were those of the atlas {name}, brought to the data by symmetric diffeomorphic '
                  'registration [@avants2008]'}


def init_subcortical_wf(source, *, voxel_size, voxels, identity, chi_names=(), separated_names=(), r2star_name='',
                        adult=True, microbleed_wf=None, threads=1, name='subcortical_wf'):
    """Return a workflow that finds the deep nuclei and makes the table of their values.

    Parameters
    ----------
    source : qsmbids.segmentations.Source
        Where the regions come from.
    voxel_size : tuple of float
        mm.
    voxels : int
        Voxels of one volume, for the memory.
    identity : dict
        Columns of the table that are the same in all rows.
    chi_names, separated_names : sequence of str
        The maps that will be connected, in their order.
    r2star_name : str
        Method of the R2* fit.
    adult : bool
        Whether the regions are expected to be as large as those of adults.
    microbleed_wf : Workflow, optional
        As from :func:`qsmbids.workflows.microbleeds.init_microbleed_wf`. It becomes a part, so that it knows the
        regions, and they know what does not count.
    threads : int

    Inputs
    ------
    magnitude, combined
        4D, echo last; 3D.
    brain_mask
    chi, references, qsm_mask
        Lists, in the order of `chi_names`; where they are known.
    separated
        A list, in the order of `separated_names`.
    r2star, csf_mask
        1/s; a reference region.

    Outputs
    -------
    labels, label_table
        Indices of :mod:`qsmbids.core.labels`, and what they are.
    statistics
        TSV.
    metadata, warnings
    """
    workflow = DescribedWorkflow(name=name)
    workflow.__desc__ = _SAID[source.rung].format(name=source.name) + '.'
    inputnode = fields('magnitude', 'combined', 'brain_mask', 'chi', 'references', 'qsm_mask', 'separated', 'r2star',
                       'csf_mask', name='inputnode')
    outputnode = fields('labels', 'label_table', 'statistics', 'metadata', 'region_warnings', 'value_warnings',
                        name='outputnode')
    segment = _segment_node(source, voxel_size, bool(chi_names), bool(r2star_name), inputnode, workflow,
                            dict(voxels=voxels, threads=threads))
    measure = numeric_node(
        RegionStatistics(voxel_size=voxel_size, chi_names=list(chi_names), separated_names=list(separated_names),
                         r2star_name=r2star_name, adult=adult,
                         identity=dict(identity) | {'seg_source': source.rung, 'atlas': source.name}),
        'measure', buffers=20 + len(chi_names) + len(separated_names), voxels=voxels)
    workflow.connect([
        (inputnode, measure, [('magnitude', 'magnitude'), ('brain_mask', 'mask')]),
        (segment, measure, [('labels', 'labels'), ('shares', 'shares'), ('known', 'known')]),
        (segment, outputnode, [('labels', 'labels'), ('table', 'label_table'), ('metadata', 'metadata'),
                               ('warnings', 'region_warnings')]),
        (measure, outputnode, [('table', 'statistics'), ('warnings', 'value_warnings')])])
    if chi_names:
        workflow.connect([(inputnode, measure, [('chi', 'chi'), ('references', 'references'), ('qsm_mask', 'qsm'),
                                                ('csf_mask', 'csf')])])
    if separated_names:
        workflow.connect([(inputnode, measure, [('separated', 'separated')])])
    if r2star_name:
        workflow.connect([(inputnode, measure, [('r2star', 'r2star')])])
    if microbleed_wf is not None:
        workflow.connect([
            (inputnode, microbleed_wf, [('brain_mask', 'inputnode.brain_mask')]
             + [('r2star', 'inputnode.r2star')] * bool(r2star_name)),
            (segment, microbleed_wf, [('labels', 'inputnode.regions')]),
            (microbleed_wf, measure, [('outputnode.mask', 'lesions')])])
        if chi_names:
            workflow.connect([(inputnode, microbleed_wf, [(('chi', first), 'inputnode.chi')])])
    return workflow


def _segment_node(source, voxel_size, has_chi, has_r2star, inputnode, workflow, sizes):
    """Return the node that finds the regions, connected to its inputs."""
    if source.rung == 'network':
        # The network's own features, on its own grid, come on top.
        node = numeric_node(NetworkRegions(voxel_size=voxel_size, weights=source.name), 'segment', buffers=20,
                            network_gb=NETWORK_GB, **sizes)
        ports = [('combined', 'magnitude'), ('qsm_mask', 'mask')] + [('r2star', 'r2star')] * has_r2star
        workflow.connect([(inputnode, node, ports), (inputnode, node, [(('chi', first), 'chi')])])
        return node
    if source.rung == 'atlas':
        return _atlas_node(source, has_chi, inputnode, workflow, sizes)
    own = {name: value for name, value in (('in_table', source.table), ('image', source.image)) if value}
    node = numeric_node(GivenRegions(name=source.name, in_file=source.path, aligned=source.aligned, **own), 'segment',
                        buffers=20, **sizes)
    workflow.connect([(inputnode, node, [('combined', 'magnitude'), ('brain_mask', 'mask')])])
    return node


def _atlas_node(source, has_chi, inputnode, workflow, sizes):
    """Return the node that brings the regions of an atlas to the data, behind the one that finds the way."""
    register = register_node(source.template, source.image, has_chi, inputnode, workflow, sizes)
    node = numeric_node(AtlasRegions(name=source.name, labels=source.path,
                                     **({'in_table': source.table} if source.table else {})), 'segment', buffers=30,
                        **sizes)
    workflow.connect([(inputnode, node, [('combined', 'magnitude')]),
                      (register, node, [('to_native', 'transforms'), ('metadata', 'registration'),
                                        ('warnings', 'registration_warnings')])])
    return node


def register_node(template, image, has_chi, inputnode, workflow, sizes):
    """Return the node that registers a template to the data, connected to its inputs."""
    node = numeric_node(RegisterTemplate(template=template.image, contrast=template.contrast, name=template.name,
                                         **({'image': image} if image else {})), 'register', buffers=60, **sizes)
    workflow.connect([(inputnode, node, [('combined', 'magnitude'), ('brain_mask', 'mask')])])
    if has_chi:
        workflow.connect([(inputnode, node, [(('chi', first), 'chi')])])
    return node


def init_space_wf(template, *, voxels, image=None, has_chi=True, threads=1, name='space_wf'):
    """Return a workflow that brings maps to the space of a template.

    Parameters
    ----------
    template : qsmbids.templates.Template
    voxels : int
        Voxels of one volume, for the memory.
    image : str, optional
        T1w image of the participant.
    has_chi : bool
        Whether a susceptibility map will be connected for the registration.
    threads : int

    Inputs
    ------
    combined, brain_mask
    chi
        A list; the first is the one that is registered.
    maps
        What to move.

    Outputs
    -------
    maps
        In the order of the input.
    metadata, warnings
    """
    workflow = DescribedWorkflow(name=name)
    workflow.__desc__ = (f'Maps were brought to the space {template.name} by one composed affine and symmetric '
                         'diffeomorphic transform [@avants2008] and one linear interpolation.')
    inputnode = fields('combined', 'brain_mask', 'chi', 'maps', name='inputnode')
    outputnode = fields('maps', 'metadata', 'warnings', name='outputnode')
    sizes = dict(voxels=voxels, threads=threads)
    register = register_node(template, image, has_chi, inputnode, workflow, sizes)
    move = numeric_node(ToTemplate(template=template.image), 'move', buffers=20, **sizes)
    workflow.connect([
        (inputnode, move, [('maps', 'maps')]), (register, move, [('to_template', 'transforms')]),
        (move, outputnode, [('maps', 'maps')]),
        (register, outputnode, [(('metadata', _in_space), 'metadata'), ('warnings', 'warnings')])])
    return workflow


def _in_space(metadata):
    """Return the sidecar of a map in the space of a template."""
    return metadata | {'SpatialReference': metadata['TemplateFile'], 'Interpolation': 'linear, once',
                       'Resolution': 'that of the template'}


def first(values):
    """Return the first of some values, for a connection."""
    return values[0]
