"""The group level: tables over all participants, from the output directory alone."""

import sys
from pathlib import Path

from qsmbids import __version__
from qsmbids.cli.environment import run_command
from qsmbids.files import describe, read_json, write_table
from qsmbids.reports.status import IDENTITY, STATE, folder_of, latest_states

_IDENTITY = IDENTITY | STATE | {'reason': 'Why it is not complete'}
_OF_MAPS = {
    'sd_ppm': 'Standard deviation of the susceptibility by {} in the QSM mask, in ppm',
    'p1_ppm': '1st percentile of the susceptibility by {} in the QSM mask, in ppm',
    'p99_ppm': '99th percentile of the susceptibility by {} in the QSM mask, in ppm',
    'kernel_gain': 'By how much the map by {} is too weak for its local field; 1 if it is not',
    'kernel_offset': 'Offset of the dipole kernel measured from local field and map by {}',
    'kernel_rms': 'Root mean square difference from theory of the dipole kernel measured from local field and map by '
                  '{}',
    'kernel_coherence': 'How much of the local field goes with the map by {}, 0 to 1',
    'kernel_angle_deg': 'Angle in degrees between the direction of B0 in the header and the one for which local field '
                        'and map by {} agree best; small by construction for a map that was inverted with the former',
    'field_nrmse': 'Error of the field that the map by {} makes, relative to the local field',
    'agreement_slope': 'ppm of the map by {} for each ppm of the first map, by the main axis of their scatter',
    'agreement_correlation': 'Correlation of the map by {} with the first map in the QSM mask',
    'difference_rms_ppm': 'Root mean square difference of the map by {} from the first map, both without their means, '
                          'in ppm',
    'flag': 'Worst finding of the check of the map by {} against its field: 0 none, 1 a warning, 2 a failure'}


def run(config):
    """Write the tables of quality, regions and microbleeds, and the page of all; return the exit code."""
    output_dir = Path(config.output_dir)
    rows = latest_states(output_dir)
    if not rows:
        print(f'qsmbids: {output_dir}: no logs/status-*.tsv there; run the participant level first', file=sys.stderr)
        return 65
    return run_command('qsmbids', lambda: _write_all(config, output_dir, rows), beside=output_dir)


def _write_all(config, output_dir, rows):
    # These import kernels, whose cache must have a place before.
    from qsmbids.reports.cohort import read_participants, write_group_regions
    from qsmbids.reports.group import write_group_page
    from qsmbids.reports.microbleeds import write_group_microbleeds
    write_group_quality(output_dir, rows)
    tables = write_group_regions(output_dir, rows, config.bids_dir, config.longitudinal)
    tables += write_group_microbleeds(output_dir, rows)
    page = write_group_page(output_dir, __version__, read_participants(config.bids_dir)[0])
    print(f'qsmbids: {len(rows)} acquisitions in {output_dir / "group_qc.tsv"}, {", ".join(tables)}\n'
          f'Open {page}')


def write_group_quality(output_dir, rows):
    """Write the quality table: one row per acquisition, metrics ``n/a`` where it failed."""
    metrics = []
    for row in rows:
        found = _quality_file(output_dir, row)
        content = read_json(found) if found and row['state'] == 'complete' else {}
        metrics.append(content.get('metrics', {}) | {'warnings': len(content['warnings']) if content else None})
    names = list(dict.fromkeys(name for values in metrics for name in values))
    write_table(output_dir, 'group_qc', [row | values for row, values in zip(rows, metrics)],
                describe(_IDENTITY | describe_metrics(names)))


def describe_metrics(names):
    """Return a description of each metric."""
    fixed = {
        'brain_volume_ml': 'Volume of the brain mask in mL', 'qsm_volume_ml': 'Volume of the QSM mask in mL',
        'snr_first_echo': 'Median magnitude of the first echo in the brain over the noise outside of the head',
        'reliable_fraction': 'Part of the brain mask in which the echo fit is trusted',
        'qsm_fraction': 'Part of the brain mask in which the susceptibility is known',
        'residual_median': 'Median relative residual of the echo fit in the brain mask',
        'residual_p95': '95th percentile of the relative residual of the echo fit in the brain mask',
        'total_field_sd_ppm': 'Standard deviation of the total field in the brain mask, in ppm',
        'local_field_sd_ppm': 'Standard deviation of the local field in the QSM mask, in ppm',
        'field_b0_angle_deg': 'Angle in degrees between the direction of B0 in the header and the one that the '
                              'spectrum of the local field shows',
        'field_b0_contrast': 'How clearly it shows that: correlation of its logarithm with the squared dipole kernel',
        'r2star_median': 'Median R2* in the brain mask, in 1/s',
        'microbleeds_definite': 'Number of definite microbleeds; research use only, not a diagnosis',
        'microbleeds_possible': 'Number of possible microbleeds; research use only, not a diagnosis',
        'warnings': 'Number of warnings'}
    described = {}
    for name in names:
        method, _, part = name.removeprefix('chi_').partition('_')
        described[name] = fixed.get(name) or _OF_MAPS[part].format(method)
    return described


def _quality_file(output_dir, row):
    if row['acquisition'] == 'n/a':
        return None
    path = folder_of(output_dir, row) / 'anat' / f'{row["acquisition"]}_desc-qsm_qc.json'
    return path if path.is_file() else None
