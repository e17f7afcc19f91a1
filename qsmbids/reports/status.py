"""The status table of a run: one row per acquisition, written whatever happens."""

from pathlib import Path

from qsmbids.files import read_tsv, write_tsv

# What tells the rows of group tables apart.
IDENTITY = {'participant': 'Participant label', 'session': 'Session label', 'run': 'Run index',
            'acquisition': 'File name stem of the acquisition'}
STATE = {'state': 'complete, failed, unusable or running, of the newest run'}
COLUMNS = ['participant', 'session', 'run', 'acquisition', 'state', 'reason', 'crashfile']


def write_status(output_dir, run_id, rows):
    """Write ``logs/status-<run_id>.tsv``."""
    return write_tsv(Path(output_dir) / 'logs' / f'status-{run_id}.tsv', rows, COLUMNS)


def folder_of(output_dir, state):
    """Return the folder of the session, or of the participant without sessions, that a row is about."""
    return Path(output_dir) / state['participant'] / (f'ses-{state["session"]}' if state['session'] != 'n/a' else '')


def latest_states(output_dir):
    """Return the newest row of each acquisition (or of each participant without one) over all status tables."""
    newest = {}
    # The names begin with date and time, so that their order is that of the runs.
    for path in sorted((Path(output_dir) / 'logs').glob('status-*.tsv')):
        for row in read_tsv(path):
            newest[row['participant'], row['acquisition']] = row
    with_images = {participant for participant, acquisition in newest if acquisition != 'n/a'}
    return [row for (participant, acquisition), row in sorted(newest.items())
            if acquisition != 'n/a' or participant not in with_images]
