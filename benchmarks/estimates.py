"""What steps take, and how well --dry-run foretells it.

    python benchmarks/estimates.py costs [--write]      # seconds of each step by size and echoes: qsmbids/data/costs.json
    python benchmarks/estimates.py check [--cases 3]    # whole runs against their estimates

`costs` runs every method on simulated heads of several sizes and numbers of echoes, one step at a time and with one
thread, and fits seconds = fixed + megavoxels * (a + b * echoes) to the processor's time of each step, so that no
measurement is above the fit. It also prints the memory that each step took beside what its node states. `check` runs
the command itself and prints estimated and measured seconds and peak memory (all processes together, shared pages once).
"""

import argparse
import ctypes
import json
import re
import resource
import tempfile
import time
from pathlib import Path

import networkx
import numpy as np
from pipeline import run as run_command
from scipy.optimize import linprog

from qsmbids.bids import find_acquisitions, load_layout
from qsmbids.cli.parser import parse
from qsmbids.cli.plan import Planner
from qsmbids.cli.resources import Limits
from qsmbids.core.methods import BACKGROUND, INVERSION, RELAXOMETRY, UNWRAPPING
from qsmbids.simulation.bids import write_description, write_scan
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, simulate
from qsmbids.workflows.base import init_acquisition_wf, method_settings
from qsmbids.workflows.estimate import COSTS, cost_key, measure_speed, probe
from qsmbids.workflows.run import configure_nipype

# Voxels along an edge, and echoes.
CASES = ((48, 3), (64, 1), (64, 3), (64, 8), (96, 3), (128, 4))
FIELD_OF_VIEW = 210.0  # mm
_QUICK = ['--inversion', 'tkd', '--level', 'minimal']


def make(root, size, echoes):
    """Write a participant whose label says its size; return the label."""
    label = f'{size}x{echoes}'
    if not (root / f'sub-{label}').exists():
        affine = np.diag([FIELD_OF_VIEW / size] * 3 + [1.0])
        affine[:3, 3] = np.array([0, -17, 12]) - FIELD_OF_VIEW / 2
        times = tuple(0.004 + 0.024 * echo / max(echoes - 1, 1) for echo in range(echoes)) if echoes > 1 else (0.02,)
        scan = simulate(lambda shape, grid: digital_head(shape, grid, seed=5),
                        Sequence((size,) * 3, affine, times, snr=40, supersampling=1), seed=6, surround_mm=40)
        write_description(root, 'benchmark')
        write_scan(root, scan, {'sub': label}, vendor='siemens_levels',
                   suffix='MEGRE' if echoes > 1 else 'T2starw')
    return label


def peak_gigabytes(reset=False):
    if reset:
        ctypes.CDLL('libc.so.6').malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')
    kind = 'VmRSS' if reset else 'VmHWM'
    return int(re.search(rf'{kind}:\s+(\d+)', Path('/proc/self/status').read_text())[1]) * 1.024e-6


def measure(root, out, label, flags):
    """Run one participant step by step; yield key, megavoxels, echoes, seconds, gigabytes, stated gigabytes."""
    config = parse([str(root), str(out), 'participant', '-w', tempfile.mkdtemp(dir=out), *flags])
    configure_nipype(stop_on_first_crash=True, resource_monitor=False, crash_folder=out)
    (acquisition,) = find_acquisitions(load_layout(root, [label]), [label])
    workflow = init_acquisition_wf(acquisition, method_settings(config), output_dir=out, threads=1)
    workflow.base_dir = str(config.work_dir)
    rows = []

    class Plugin:
        plugin_args = {}

        def run(self, graph, config, updatehash=False):
            workflow._set_needed_outputs(graph)
            for node in networkx.topological_sort(graph):
                before, start = peak_gigabytes(reset=True), time.process_time()
                node.run()
                seconds = time.process_time() - start
                rows.append((cost_key(node.interface), float(np.prod(acquisition.shape)) * 1e-6, len(acquisition.echo_times),
                             seconds, peak_gigabytes() - before, node.mem_gb))

    workflow.run(plugin=Plugin())
    return rows


def variants():
    """Return (case, flags), small ones first: the defaults at all sizes, every other method at two."""
    found = [(case, ['--chi-separation'] if case[1] > 1 else []) for case in CASES]
    for case in ((48, 3), (64, 3)):
        found += [(case, flags) for flags in (
            ['--inversion', *(n for n, m in INVERSION.items() if not m.weights), '--weighting', 'certainty'],
            *(['--background', name, *_QUICK] for name in BACKGROUND),
            *(['--unwrapping', name, '--echo-fit', 'linear', *_QUICK] for name in UNWRAPPING),
            *(['--relaxometry', name, '--inversion', 'tkd'] for name in RELAXOMETRY),
            ['--two-pass', *_QUICK],
            ['--inversion', *(n for n, m in INVERSION.items() if m.weights), '--level', 'minimal'])]
    return sorted(found, key=lambda variant: variant[0][0])


def fit(rows):
    """Return the least (fixed, per megavoxel, per megavoxel and echo), none negative, that no row exceeds."""
    size, echoes, seconds = (np.array([row[i] for row in rows]) for i in (1, 2, 3))
    matrix = np.stack([np.ones_like(size), size, size * echoes], 1)
    if len(set(echoes)) < 2:
        matrix[:, 2] = 0
    if len(set(size)) < 2:
        matrix[:, 0] = 0
    # No more is fixed than the median, so that what is flat among small volumes still grows.
    found = linprog(matrix.sum(0) + 1e-9, A_ub=-matrix, b_ub=-seconds,
                    bounds=[(0, np.median(seconds)), (0, None), (0, None)])
    return [float(f'{value:.3g}') for value in found.x]


def costs(root, out, write):
    known = root.parent / 'measured.json'  # a second call goes on from what was measured
    measured = json.loads(known.read_text()) if known.exists() else {}
    for case, flags in variants():
        label = make(root, *case)
        name = ' '.join([label, *flags])
        if name not in measured:
            print(name, flush=True)
            if case == CASES[0]:  # the first run of a method compiles
                measure(root, out, label, flags)
            measured[name] = measure(root, out, label, flags)
            known.write_text(json.dumps(measured))
            table = fit_all(sum(measured.values(), []))
            if write:
                write_table(table)
    print_table(sum(measured.values(), []), table)


def fit_all(rows):
    keys = sorted({row[0] for row in rows} - {'IdentityInterface'})
    return {key: fit([row for row in rows if row[0] == key]) for key in keys}


def print_table(rows, table):
    print(f'{"step":38s} {"s":>7s} {"s/Mvox":>8s} {"s/Mvox/echo":>11s} {"worst s":>8s} {"GB of stated":>12s}')
    for key, (fixed, each, echo) in table.items():
        own = [row for row in rows if row[0] == key]
        print(f'{key:38s} {fixed:7.2f} {each:8.2f} {echo:11.3f} {max(row[3] for row in own):8.2f} '
              f'{max(row[4] / row[5] for row in own):12.0%}')


def write_table(table):
    content = {'probe_seconds': float(f'{probe():.3g}'), 'seconds': table}
    Path(str(COSTS)).write_text(re.sub(r'\[\s+([^\]]+?)\s+\]', lambda m: f'[{" ".join(m[1].split())}]',
                                       json.dumps(content, indent=2)) + '\n')


def check(root, out, cases, nprocs):
    """Run the command on participants of several sizes; print what was foretold and what it took."""
    print(f'{"participant":12s} {"s foretold":>10s} {"s":>6s} {"s of the processor":>18s} {"GB foretold":>11s} {"GB":>6s}')
    for case in CASES[:cases]:
        label = make(root, *case)
        config = parse([str(root), str(out / label), 'participant', '-w', str(out / f'work-{label}')])
        (acquisition,) = find_acquisitions(load_layout(root, [label]), [label])
        foretold = Planner(config, Limits(nprocs, nprocs, 100.0, 'check'), measure_speed()).estimate([acquisition])
        before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        seconds, peak = run_command(root, config.output_dir, config.work_dir, '--participant-label', label, '--nprocs',
                                    str(nprocs))
        own = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before
        print(f'{label:12s} {foretold.seconds:10.0f} {seconds:6.0f} {own:18.0f} {foretold.gigabytes:11.2f} {peak:6.2f}',
              flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('costs', 'check'))
    parser.add_argument('--write', action='store_true', help='replace the table of costs')
    parser.add_argument('--cases', type=int, default=len(CASES), help='how many sizes are checked')
    parser.add_argument('--nprocs', type=int, default=1)
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'qsmbids-estimates')
    options = parser.parse_args()
    root = options.folder / 'bids'
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as out:
        if options.what == 'costs':
            costs(root, Path(out), options.write)
        else:
            check(root, Path(out), options.cases, options.nprocs)


if __name__ == '__main__':
    main()
