"""``qsmbids-slurm``: one job for each participant, as a SLURM array, and a group job after it."""

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

from qsmbids import __version__
from qsmbids.cli.about import add_about
from qsmbids.cli.environment import run_command
from qsmbids.cli.parser import gigabytes, parse, positive
from qsmbids.cli.resources import Limits
from qsmbids.files import FileError, read_json, write_json, write_text

DESCRIPTION = """\
Submit qsmbids to SLURM: an array with one task per participant, with memory and time after qsmbids's own estimates, and
a group job when all of them have ended. The same command again submits what is not complete and not in the queue."""
EPILOG = """\
What stands after -- goes to qsmbids as it is:

    qsmbids-slurm /data /out -w /scratch/$USER --image qsmbids.sif --sbatch '--partition=long' -- --inversion tv medi"""
# Kernels compile at the first run on a kind of processor; an image has them.
_COMPILE_SECONDS = 60
# Kinds of participants (by sizes and numbers of images) of which estimates are made, the largest first.
_MOST_KINDS = 20


def build_parser():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(prog='qsmbids-slurm', description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('bids_dir', type=Path, help='root of the BIDS data set')
    parser.add_argument('output_dir', type=Path, help='where the derivatives go; scripts and logs are in logs/slurm-*')
    add_about(parser)
    parser.add_argument('--participant-label', nargs='+', default=(), metavar='LABEL',
                        help='with or without sub-; all by default')
    parser.add_argument('-w', '--work-dir', required=True, metavar='DIR',
                        help="on the nodes; a folder for each participant is made in it, and removed when it is "
                             "complete. $VARIABLES are those of the node, such as '$TMPDIR'")
    parser.add_argument('--keep-work', action='store_true', help='leave the folders in the work directory')
    parser.add_argument('--all', action='store_true', help='also those that are complete, or were found unusable')
    parser.add_argument('--no-group', action='store_true', help='no group job afterwards')
    parser.add_argument('--dry-run', action='store_true', help='write the scripts, print how to submit them, and stop')
    jobs = parser.add_argument_group('jobs')
    jobs.add_argument('--cpus', type=positive, default=2, metavar='N', help='cores of a job [2]')
    jobs.add_argument('--mem', type=gigabytes, metavar='GB', help='memory of a job [110 %% of the estimate]')
    jobs.add_argument('--minutes', type=positive, metavar='N',
                      help='time of a participant [twice the estimate for this machine, and one minute]')
    jobs.add_argument('--array-limit', type=positive, metavar='N',
                      help='most tasks of an array; participants beyond share tasks [what the cluster allows]')
    jobs.add_argument('--at-once', type=positive, metavar='N', help='most tasks that run at the same time')
    jobs.add_argument('--sbatch', default='', metavar='FLAGS',
                      help="more flags for sbatch, such as '--partition=long --account=x'")
    command = parser.add_argument_group('command')
    command.add_argument('--image', type=Path, metavar='FILE', help='Apptainer image to run instead of the command')
    command.add_argument('--bind', nargs='+', default=(), metavar='PATH',
                         help='more folders that the image is to see, read-only')
    command.add_argument('--command', default=f'{shlex.quote(sys.executable)} -m qsmbids', metavar='TEXT',
                         help='how qsmbids is called on the nodes [by the Python of this command]')
    return parser


def main(arguments=None):
    """Run the command and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    cut = arguments.index('--') if '--' in arguments else len(arguments)
    options = build_parser().parse_args(arguments[:cut])
    flags = arguments[cut + 1:]
    # The command line of the jobs is checked here, before a thousand of them fail by it.
    config = parse([str(options.bids_dir), str(options.output_dir), 'participant', '-w', options.work_dir,
                    '--nprocs', str(options.cpus), *flags])
    return run_command('qsmbids-slurm', lambda: _Submission(options, flags, config).execute())


class _Submission:
    """One call: whom it is about, what a job needs, the scripts, their submission."""

    def __init__(self, options, flags, config):
        self.options, self.flags, self.config = options, flags, config
        self.folder = config.output_dir / 'logs' / f'slurm-{time.strftime("%Y%m%d-%H%M%S")}-{uuid.uuid4().hex[:8]}'

    def execute(self):
        from qsmbids.bids import BIDSInputError
        try:
            subjects = self._choose()
        except BIDSInputError as error:
            print(f'qsmbids-slurm: {error}', file=sys.stderr)
            return 2
        if not subjects:
            print('qsmbids-slurm: nothing to submit')
            return 0
        self._plan(subjects)
        self._write_scripts(subjects)
        array, group = ['sbatch', '--parsable', str(self.folder / 'participant.sh')], None
        if self.options.dry_run:
            print(f'{shlex.join(array)}\nsbatch --dependency=afterany:<its number> {self.folder / "group.sh"}')
            return 0
        job = _call(array).split(';')[0]
        write_json(self.folder / 'submission.json', {'job': job, 'participants': subjects, 'per_task': self.per_task})
        if not self.options.no_group:
            group = _call(['sbatch', '--parsable', f'--dependency=afterany:{job}', str(self.folder / 'group.sh')])
        print(f'job {job}: {len(subjects)} participants' + (f'; job {group.split(";")[0]}: group' if group else '')
              + f'; scripts and logs in {self.folder}')
        return 0

    def _choose(self):
        """Return the participants that are neither complete nor in the queue."""
        from qsmbids.bids import find_subjects
        from qsmbids.reports.status import latest_states
        subjects = find_subjects(self.config.bids_dir, self.options.participant_label)
        rows = {}
        for row in latest_states(self.config.output_dir):
            rows.setdefault(row['participant'].removeprefix('sub-'), set()).add(row['state'])
        done = {subject for subject, states in rows.items() if states == {'complete'}}
        unusable = {subject for subject, states in rows.items() if states <= {'complete', 'unusable'}} - done
        waiting = set() if self.options.dry_run and not shutil.which('squeue') else _in_queue(self.config.output_dir)
        left_out = waiting if self.options.all else waiting | done | unusable
        for name, group in (('in the queue', waiting), ('complete', done), ('unusable', unusable)):
            count = len(group & set(subjects) & left_out)
            if count:
                again = '' if group is waiting else '; --all takes them again'
                print(f'qsmbids-slurm: {count} participants are {name} and left out{again}')
        return [subject for subject in subjects if subject not in left_out]

    def _plan(self, subjects):
        """Decide how many participants a task has, and its memory and time."""
        limit = self.options.array_limit or _largest_array()
        self.per_task = math.ceil(len(subjects) / limit)
        self.tasks = math.ceil(len(subjects) / self.per_task)
        self.memory_mb, self.minutes = None, self.options.minutes
        if not (self.options.mem and self.options.minutes):
            seconds, peak_gb = self._estimate(subjects)
            self.memory_mb = math.ceil(1.1 * peak_gb * 1e9 / 2 ** 20)
            self.minutes = self.minutes or math.ceil((2 * seconds + _COMPILE_SECONDS) / 60)
        if self.options.mem:
            self.memory_mb = math.ceil(self.options.mem * 1e9 / 2 ** 20)
        print(f'qsmbids-slurm: {self.tasks} tasks of {self.per_task} participants, {self.options.cpus} cores, '
              f'{self.memory_mb} MB and {self.minutes * self.per_task} minutes each')

    def _estimate(self, subjects):
        """Return seconds and GB that suffice for any of the participants."""
        from qsmbids.bids import find_acquisitions, load_layout, read_filter
        from qsmbids.cli.plan import Planner
        from qsmbids.workflows.estimate import measure_speed
        planner = Planner(self.config, Limits(self.options.cpus, min(self.config.omp_nthreads or 8, self.options.cpus),
                                              self.options.mem or math.inf, '--mem'), measure_speed())
        chosen = read_filter(self.config.bids_filter_file) if self.config.bids_filter_file else None
        found = []
        for subject in representatives(self.config.bids_dir, subjects):
            layout = load_layout(self.config.bids_dir, [subject], validate=False)
            usable = [a for a in find_acquisitions(layout, [subject], sessions=self.config.session_label,
                                                   bids_filter=chosen) if not a.problems]
            try:
                found += [planner.estimate(usable)] if usable else []
            except Exception as error:  # the job itself will say the same of this participant
                print(f'qsmbids-slurm: sub-{subject}: {" ".join(str(error).split())}', file=sys.stderr)
        if not found:
            raise FileError(f'{self.config.bids_dir}: no participant has images that can be used; '
                            'qsmbids --dry-run says why. To submit all the same, give --mem and --minutes')
        return max(e.seconds for e in found), max(e.gigabytes for e in found)

    def _write_scripts(self, subjects):
        write_text(self.folder / 'participants.txt', ''.join(f'{subject}\n' for subject in subjects))
        throttle = f'%{self.options.at_once}' if self.options.at_once else ''
        header = [f'--array=0-{self.tasks - 1}{throttle}', f'--cpus-per-task={self.options.cpus}',
                  f'--mem={self.memory_mb}M', f'--time={self.minutes * self.per_task}',
                  f'--output={_quoted(self.folder)}/%a.log']
        remove = '' if self.options.keep_work else '\n    rm -rf -- "$work"'
        memory = f'{self.memory_mb * 2 ** 20 / 1e9:.3f}'
        call = self._command('participant', '--participant-label "$label" -w "$work" '
                             + shlex.join(['--nprocs', str(self.options.cpus), '--mem', memory, *self.flags]))
        write_text(self.folder / 'participant.sh', self._script('qsmbids', header, f"""\
first=$((SLURM_ARRAY_TASK_ID * {self.per_task} + 1))
mapfile -t labels < <(sed -n "${{first}},$((first + {self.per_task} - 1))p" {_quoted(self.folder / "participants.txt")})
code=0
for label in "${{labels[@]}}"; do
  work="{_in_quotes(self.options.work_dir)}/sub-$label"
  mkdir -p -- "$work"
  if {call}; then{remove or ' :'}
  else
    code=$?
  fi
done
exit $code
"""))
        write_text(self.folder / 'group.sh', self._script('qsmbids-group', [
            '--cpus-per-task=1', '--mem=1G', '--time=10', f'--output={_quoted(self.folder)}/group.log'],
            f'work=${{TMPDIR:-/tmp}}\n{self._command("group", "")}\n'))

    def _script(self, name, header, body):
        lines = [f'--job-name={name}', *header, *shlex.split(self.options.sbatch)]
        directives = ''.join(f'#SBATCH {line}\n' for line in lines)
        return f'#!/usr/bin/env bash\n# Written by qsmbids-slurm {__version__}.\n{directives}set -u\n{body}'

    def _command(self, level, arguments):
        """Return the shell text that calls qsmbids, in the image if there is one."""
        bids, out = _quoted(self.config.bids_dir), _quoted(self.config.output_dir)
        if not self.options.image:
            return f'{self.options.command} {bids} {out} {level} {arguments}'.rstrip()
        config = self.config
        seen = [config.bids_dir, *config.derivatives.values(), config.bids_filter_file, config.bids_database_dir,
                config.use_plugin, *(Path(path).absolute() for path in self.options.bind)]
        wrong = [str(path) for path in (*seen, config.output_dir) if path and set(':,') & set(str(path))]
        if wrong:
            raise FileError(f'{wrong[0]}: apptainer cannot bind a path with a colon or a comma; link it to another')
        binds = ','.join(dict.fromkeys(f'{path}:{path}:ro' for path in seen if path))
        image = self.options.image.absolute()
        return (f'apptainer run --containall --env {_quoted(f"QSMBIDS_CONTAINER_TAG={image.name}")} '
                f'--bind {_quoted(f"{binds},{config.output_dir}")} --bind "$work" {_quoted(image)} '
                f'{bids} {out} {level} {arguments}').rstrip()


def representatives(bids_dir, subjects):
    """Return a participant of each kind, the largest first: kinds differ by size and number of their images.

    Reads headers alone and asks pybids nothing, so that thousands of participants take seconds.
    """
    from qsmbids.bids import SUFFIXES
    from qsmbids.headers import load_image
    kinds = {}
    for subject in subjects:
        images = [path for suffix in SUFFIXES
                  for path in sorted(Path(bids_dir, f'sub-{subject}').glob(f'**/anat/*_{suffix}.nii*'))]
        shapes = {}
        for path in images:
            # Images of one acquisition lie on one grid: it is enough to look at the first of a session.
            if path.parent not in shapes:
                try:
                    shapes[path.parent] = load_image(path).shape
                except FileError:
                    continue
        kind = tuple(sorted((shape, sum(p.parent == folder for p in images)) for folder, shape in shapes.items()))
        kinds.setdefault(kind, subject)
    kinds.pop((), None)
    largest = sorted(kinds, key=lambda kind: -max(math.prod(shape) * count for shape, count in kind))
    return [kinds[kind] for kind in largest[:_MOST_KINDS]]


def _in_queue(output_dir):
    """Return the participants of former submissions for this output whose tasks wait or run."""
    former = [read_json(path) for path in (output_dir / 'logs').glob('slurm-*/submission.json')]
    if not former:
        return set()
    listed = _call(['squeue', '--noheader', '--array', '--format=%F %K'])
    tasks = {tuple(line.split()) for line in listed.splitlines()}
    return {subject for submission in former for index, subject in enumerate(submission['participants'])
            if (submission['job'], str(index // submission['per_task'])) in tasks}


def _largest_array():
    """Return how many tasks the cluster allows in an array; SLURM's own default where it cannot be asked."""
    if shutil.which('scontrol'):
        for line in _call(['scontrol', 'show', 'config']).splitlines():
            name, _, value = line.partition('=')
            if name.strip() == 'MaxArraySize' and int(value) > 1:
                return int(value) - 1
    return 1000


def _call(command):
    """Return what a command of SLURM prints.

    Raises
    ------
    FileError
        If it is not there or fails.
    """
    try:
        # Flags for sbatch that the user has for other jobs in the environment would win over those of the script.
        environment = {name: value for name, value in os.environ.items() if not name.startswith('SBATCH_')}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    except FileNotFoundError:
        raise FileError(f'{command[0]} is not on this machine: call qsmbids-slurm where jobs are submitted, or with '
                        '--dry-run') from None
    except subprocess.CalledProcessError as error:
        raise FileError(f'{shlex.join(command)} failed: {error.stderr.strip()}') from None
    return done.stdout.strip()


def _quoted(text):
    return shlex.quote(str(text))


def _in_quotes(text):
    """Return text for use within double quotes, in which variables are replaced and nothing else."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace('`', '\\`').replace('$(', '\\$(')


if __name__ == '__main__':
    sys.exit(main())
