"""The files that make a folder of derivatives a BIDS data set."""

import os
from pathlib import Path

from qsmbids import __version__
from qsmbids.bids import BIDS_VERSION
from qsmbids.files import write_json, write_text, write_tsv

# What BIDS has no name for: pages, logs, figures, group tables, quality and compliance, residual maps,
# susceptibility-weighted images and their projections, R2', values of regions, lesions and their counts.
IGNORED = ('*.html', 'logs', 'figures', 'group_*', '*_qc.json', '*_compliance.json', '*_residual.nii.gz',
           '*_residual.json', '*_swi.*', '*_minIP.*', '*_R2primemap.*', '*_stats.*', '*_lesions.*', '*_counts.*')
_README = """\
Derivatives of qsmbids: quantitative susceptibility maps and what goes with them.

Open sub-<label>.html for a participant, and group.html, which the group level makes, for all. descriptions.tsv says
what each desc- value means; the sidecar of each image says how it was made and in which units. logs/ holds the status
table of each run, crash files, the settings and the methods text (CITATION.md). Maps are for research use.
"""


def write_dataset_files(output_dir, bids_dir, descriptions):
    """Write dataset_description.json, README.md, .bidsignore and descriptions.tsv, unless they are there.

    Parameters
    ----------
    output_dir, bids_dir : path
    descriptions : dict
        What each ``desc-`` value means.
    """
    output_dir = Path(output_dir)
    write_json(output_dir / 'dataset_description.json', {
        'Name': 'qsmbids derivatives', 'BIDSVersion': BIDS_VERSION, 'DatasetType': 'derivative', 'License': 'n/a',
        'GeneratedBy': generated_by(),
        'SourceDatasets': [{'URL': Path(bids_dir).resolve().as_uri()}],
        'DatasetLinks': {'raw': Path(bids_dir).resolve().as_uri()},
        'HowToAcknowledge': 'Include the methods text of logs/CITATION.md and cite its references.'})
    write_text(output_dir / 'README.md', _README)
    write_text(output_dir / '.bidsignore', '\n'.join(IGNORED) + '\n')
    write_tsv(output_dir / 'descriptions.tsv',
              [{'desc_id': f'desc-{name}', 'description': text} for name, text in descriptions.items()],
              ['desc_id', 'description'])


def generated_by():
    """Return what made the derivatives: name, version, and the container that it ran in, if any."""
    image = os.environ.get('APPTAINER_CONTAINER') or os.environ.get('SINGULARITY_CONTAINER')
    tag = os.environ.get('QSMBIDS_CONTAINER_TAG') or (Path(image).name if image else None)
    container = {'Container': {'Type': 'apptainer' if image else 'docker', 'Tag': tag}} if tag else {}
    return [{'Name': 'qsmbids', 'Version': __version__, **container}]
