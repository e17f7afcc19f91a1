"""Statistics of a cohort from the group tables: do patients have more iron in a nucleus than controls of their age?

    python examples/cohort_statistics.py [FOLDER] [PARTICIPANTS]

Simulates a cohort of which every second participant has Parkinson's disease (3 mm voxels, to be quick), runs both
levels of qsmbids on it, and compares the groups. With a cohort of your own begin at `study`.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from qsmbids.__main__ import main as qsmbids
from qsmbids.cli.simulate import main as qsmbids_simulate

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

NUCLEI = ('Putamen', 'Pallidum', 'RedNucleus', 'SubstantiaNigra')


def make_cohort(folder, participants):
    """Simulate participants and process them; what exists stays."""
    bids, out, work = (str((folder / name).absolute()) for name in ('bids', 'out', 'work'))
    qsmbids_simulate([bids, '--participants', str(participants), '--cohort', 'parkinson', '--voxel-size', '3', '3', '3',
                      '--variation', '0', '--seed', '1'])
    qsmbids([bids, out, 'participant', '-w', work, '--level', 'minimal', '--no-microbleeds'])
    qsmbids([bids, out, 'group'])
    return Path(out) / 'group_subcortical_wide.tsv'


def study(table, picture, shuffles=10_000):
    """Print the difference of the groups in each nucleus, at the same age, with its p by shuffling the groups."""
    rows = pd.read_csv(table, sep='\t', na_values='n/a').query('state == "complete"')
    patient, age = (rows.group == 'parkinson').to_numpy(float), rows.age.to_numpy(float)
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(1, len(NUCLEI), figsize=(11, 3))
    print(f'{len(rows)} participants, {patient.sum():.0f} patients\n')
    print(f'{"nucleus":16s} {"n":>3s} {"patients":>9s} {"controls":>9s} {"at one age":>11s} {"d":>6s} {"p":>7s}'
          '   (chi, ppb)')
    for axis, name in zip(axes, NUCLEI):
        # Both sides; a region without a trusted value is n/a in the table, and left out here.
        chi = 1000 * rows[[f'chi_mean_{name}_{side}' for side in 'LR']].mean(axis=1, skipna=False).to_numpy()
        known = np.isfinite(chi)
        if known.sum() < 4 or len(set(patient[known])) < 2:
            print(f'{name:16s} {known.sum():3d} too few values')
            continue
        difference, spread = effect(chi[known], patient[known], age[known])
        chance = [abs(effect(chi[known], rng.permutation(patient[known]), age[known])[0]) for _ in range(shuffles)]
        p = (1 + np.sum(np.array(chance) >= abs(difference))) / (1 + shuffles)
        means = [chi[known & (patient == group)].mean() for group in (1, 0)]
        print(f'{name:16s} {known.sum():3d} {means[0]:9.1f} {means[1]:9.1f} {difference:11.1f} '
              f'{difference / spread:6.2f} {p:7.4f}')
        for group, colour in ((0, '#377eb8'), (1, '#e41a1c')):
            axis.plot(age[patient == group], chi[patient == group], 'o', color=colour,
                      label=('control', 'patient')[group])
        axis.set(title=name, xlabel='age, years')
    axes[0].set_ylabel('chi, ppb')
    if axes[-1].lines:
        axes[-1].legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=80)


def effect(chi, patient, age):
    """Return the difference of the groups with a line in age taken out, and the SD of what is left."""
    model = np.stack([np.ones_like(chi), patient, age - age.mean()], 1)
    found, *_ = np.linalg.lstsq(model, chi, rcond=None)
    left = chi - model @ found
    return found[1], np.sqrt(left @ left / max(len(chi) - 3, 1))


if __name__ == '__main__':
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'build/examples')
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    study(make_cohort(folder / 'cohort', count), folder / 'cohort_statistics.png')
