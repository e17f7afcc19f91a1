"""The participant level: find acquisitions, run their workflows in batches, report."""

import logging
import os
import signal
import sys
import time
import uuid

from qsmbids.cli.environment import prepare_environment
from qsmbids.cli.plan import batches, too_large
from qsmbids.cli.progress import Silence, show_progress
from qsmbids.cli.resources import limits
from qsmbids.cli.summary import summarise

EXIT_COMPLETE, EXIT_FAILED, EXIT_USAGE, EXIT_NO_INPUT, EXIT_INTERNAL = 0, 1, 2, 65, 70
LOGGER = logging.getLogger('qsmbids')


def run(config):
    """Run the participant level and return the exit code."""
    _set_up_logging(config.verbose)
    try:
        prepare_environment(config.work_dir, clean=config.clean_workdir)
        _check_writable(config.output_dir)
        os.chdir(config.work_dir)  # nipype's monitor drops its files where it stands
    except OSError as error:
        print(f'qsmbids: {error}', file=sys.stderr)
        return EXIT_USAGE
    from qsmbids.bids import BIDSInputError
    from qsmbids.files import FileError
    this = _Run(config)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return this.execute()
    except BIDSInputError as error:
        print(f'qsmbids: {error}', file=sys.stderr)
        return EXIT_USAGE
    except FileError as error:
        print(f'qsmbids: {error}', file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        this.note_interruption()
        return EXIT_FAILED
    except Exception:
        LOGGER.exception('an error inside qsmbids; please report it with this text')
        return EXIT_INTERNAL
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number, frame):
    raise KeyboardInterrupt


class _Run:
    """One participant-level run: its settings, its status table, and what it learns on the way."""

    def __init__(self, config):
        self.config = config
        self.id = f'{time.strftime("%Y%m%d-%H%M%S")}-{uuid.uuid4()}'
        self.allowed = limits(config)
        self.rows = []
        self.made = []
        self.begun = time.monotonic()
        self.progress = Silence()
        self.methods = None
        self.internal_error = False

    def execute(self):
        config = self.config
        computes = not (config.reports_only or config.boilerplate_only)
        if computes and self.allowed.nprocs > 1 and not (config.low_mem or config.use_plugin):
            from qsmbids.workflows.server import start_server
            start_server(config.uses_networks)  # imports for the workers, while this process does for itself
        from qsmbids.bids import BIDSInputError, check_sessions, find_subjects, read_filter
        from qsmbids.files import FileError, write_text
        from qsmbids.reports.dataset import write_dataset_files
        from qsmbids.workflows.derivatives import DESCRIPTIONS
        from qsmbids.workflows.estimate import for_steps
        from qsmbids.workflows.run import configure_nipype, make_plugin
        _check_weights(config)
        _check_templates(config)
        subjects = find_subjects(config.bids_dir, config.participant_label)
        check_sessions(config.bids_dir, subjects, config.session_label)
        self.bids_filter = read_filter(config.bids_filter_file) if config.bids_filter_file else None
        configure_nipype(stop_on_first_crash=config.stop_on_first_crash, resource_monitor=config.resource_monitor,
                         crash_folder=config.output_dir / 'logs',
                         log_level=(logging.CRITICAL, logging.WARNING, logging.INFO)[min(config.verbose, 2)])
        if computes:
            self.progress = show_progress(len(subjects), self.allowed.nprocs)
        try:
            self.plugin, self.plugin_args = make_plugin(
                nprocs=self.allowed.nprocs, memory_gb=for_steps(self.allowed.memory_gb), one_at_a_time=config.low_mem,
                plugin_file=config.use_plugin, on_step=self.progress.callback)
        except ValueError as error:
            print(f'qsmbids: {error}', file=sys.stderr)
            return EXIT_USAGE
        write_dataset_files(config.output_dir, config.bids_dir, DESCRIPTIONS)
        write_text(config.output_dir / 'logs' / f'config-{self.id}.toml', config.to_toml())
        with self.progress:
            for batch in batches(subjects, self.allowed.nprocs):
                try:
                    go_on = self._run_batch(batch)
                except (BIDSInputError, FileError):  # the whole data set, or an output that cannot be written
                    raise
                except Exception as error:  # whatever it is: the table says so, and the other participants go on
                    go_on = self._fail_batch(batch, error)
                if not go_on:
                    break
        return self._finish()

    def note_interruption(self):
        """Say in the status table that what was running does so no longer; clusters send SIGTERM at a time limit."""
        print('qsmbids: interrupted; the same command goes on from here', file=sys.stderr)
        for row in self.rows:
            if row['state'] == 'running':
                row |= {'state': 'failed', 'reason': 'interrupted by a signal, as at a time limit; the same command '
                                                     'goes on from here'}
        if self.rows:
            self._write_status()

    def _fail_batch(self, subjects, error):
        LOGGER.exception('an error inside qsmbids; please report it with this text')
        self.internal_error = True
        known = {row['participant'] for row in self.rows}
        for subject in subjects:
            if f'sub-{subject}' not in known:
                self._add_row(subject, state='running')
        for row in self.rows:
            if row['state'] == 'running':
                row |= {'state': 'failed', 'reason': f'{type(error).__name__}: {error}'}
        self._write_status()
        return not self.config.stop_on_first_crash

    def _run_batch(self, subjects):
        """Process some participants; return whether to go on."""
        from qsmbids.bids import find_acquisitions, load_layout
        config = self.config
        layout = load_layout(config.bids_dir, subjects, validate=not config.skip_bids_validation,
                             database_dir=config.bids_database_dir)
        found = find_acquisitions(layout, subjects, sessions=config.session_label, bids_filter=self.bids_filter)
        for subject in sorted(set(subjects) - {a.subject for a in found}):
            self._add_row(subject, state='unusable', reason='no MEGRE or T2starw images were found that fit the '
                          'sessions and filters asked for')
        for acquisition in found:
            self._add_row(acquisition.subject, acquisition, state='unusable' if acquisition.problems else 'running',
                          reason=' '.join(acquisition.problems))
            for text in (*acquisition.problems, *acquisition.warnings):
                LOGGER.warning('%s: %s', acquisition.name, text)
        self.progress.know(len(subjects))
        usable = [a for a in found if not a.problems]
        if config.reports_only:
            self._recall_states(usable)
        self._write_status()
        if usable and not config.reports_only:
            self._compute(usable)
        if self.config.boilerplate_only:
            return not self.methods
        self._write_pages({a.subject for a in found}, found)
        return not (config.stop_on_first_crash and any(row['state'] == 'failed' for row in self.rows))

    def _compute(self, acquisitions):
        from qsmbids.bids import find_r2_map
        from qsmbids.workflows.base import crash_folder, find_regions, init_qsmbids_wf, method_settings
        from qsmbids.workflows.derivatives import list_outputs
        from qsmbids.workflows.run import find_failure, run_workflow
        config, start = self.config, time.time()
        left = {acquisition.name: acquisition for acquisition in acquisitions}

        def leave_out(acquisition, error):
            LOGGER.debug('%s', acquisition.name, exc_info=error)
            self._set_state(acquisition, 'failed', ' '.join(str(error).split()) or type(error).__name__)
            del left[acquisition.name]

        workflow = init_qsmbids_wf(config, acquisitions, self.allowed.threads, leave_out)
        self._write_methods(workflow)
        if config.write_graph:
            self._write_graph(workflow)
        if config.boilerplate_only:
            self.rows.clear()
            return
        acquisitions = self._without_too_large(workflow, list(left.values()))
        LOGGER.info('processing %s', ', '.join(a.name for a in acquisitions))
        self.progress.plan(acquisitions, workflow)
        message = run_workflow(workflow, self.plugin, self.plugin_args) if acquisitions else None
        settings = method_settings(config)
        for acquisition in acquisitions:
            failure = find_failure(crash_folder(config.output_dir, acquisition), start)
            paths = [output.path(acquisition) for output in
                     list_outputs(acquisition, settings, find_r2_map(config.derivatives, acquisition),
                                  find_regions(config, acquisition)[0])]
            lacking = [path for path in paths if not (config.output_dir / path).is_file()]
            if failure:
                self._set_state(acquisition, 'failed', *failure)
            elif lacking:
                self._set_state(acquisition, 'failed', message or f'{lacking[0]} was not written')
            else:
                self._set_state(acquisition, 'complete')
                self.made += paths
            self.progress.settle(acquisition)
        self._write_status()

    def _without_too_large(self, workflow, acquisitions):
        """Take out of the workflow what does not fit into ``--mem``; return the other acquisitions.

        A limit that was only found, not given, may be wrong, and gets a warning.
        """
        kept = []
        for acquisition in acquisitions:
            own = workflow.get_node(f'{acquisition.name.replace("-", "_")}_wf')
            node = max(own._get_all_nodes(), key=lambda node: node.mem_gb)
            if not too_large(node.mem_gb, self.allowed):
                kept.append(acquisition)
                continue
            reason = (f'the step {node.name} needs up to {node.mem_gb:.1f} GB, and {self.allowed.memory_gb:.1f} GB are '
                      f'all that {self.allowed.source} gives; --dry-run says how much each acquisition needs')
            if self.config.mem:
                self._set_state(acquisition, 'failed', reason)
                workflow.remove_nodes([own])
            else:
                LOGGER.warning('%s: %s', acquisition.name, reason)
                kept.append(acquisition)
        return kept

    def _add_row(self, subject, acquisition=None, *, state, reason=''):
        entities = acquisition.entities if acquisition else {}
        self.rows.append({'participant': f'sub-{subject}', 'session': entities.get('session', 'n/a'),
                          'run': entities.get('run', 'n/a'),
                          'acquisition': acquisition.name if acquisition else 'n/a',
                          'state': state, 'reason': reason, 'crashfile': ''})

    def _set_state(self, acquisition, state, reason='', crashfile=''):
        row = next(r for r in self.rows if r['acquisition'] == acquisition.name)
        row |= {'state': state, 'reason': reason, 'crashfile': crashfile}
        level = logging.INFO if state == 'complete' else logging.ERROR
        LOGGER.log(level, '%s: %s%s', acquisition.name, state, f': {reason}' if reason else '')

    def _recall_states(self, acquisitions):
        from qsmbids.reports.status import latest_states
        known = {row['acquisition']: row for row in latest_states(self.config.output_dir)}
        for acquisition in acquisitions:
            row = known.get(acquisition.name, {})
            said = [row.get(name, otherwise) for name, otherwise in (
                ('state', 'failed'), ('reason', 'it was never processed'), ('crashfile', ''))]
            self._set_state(acquisition, *('' if text == 'n/a' else text for text in said))

    def _write_status(self):
        from qsmbids.reports.status import write_status
        write_status(self.config.output_dir, self.id, self.rows)

    def _write_methods(self, workflow):
        """Write the methods text of the most complete acquisition so far."""
        from qsmbids.files import write_text
        from qsmbids.reports.methods import to_bibtex, to_html, to_markdown
        text = workflow.methods_text()
        if self.methods and len(text) <= len(self.methods):
            return
        self.methods = text
        logs = self.config.output_dir / 'logs'
        for name, content in (('CITATION.md', to_markdown(text)), ('CITATION.html', to_html(text)),
                              ('CITATION.bib', to_bibtex(text))):
            write_text(logs / name, content)

    def _read_methods(self):
        """Return the methods text as HTML and its references as BibTeX, be they of this run or of an earlier one."""
        from qsmbids.reports.methods import markdown_to_html
        paths = [self.config.output_dir / 'logs' / f'CITATION.{ending}' for ending in ('md', 'bib')]
        if not all(path.is_file() for path in paths):
            return '', ''
        text, bibtex = (path.read_text(encoding='utf-8') for path in paths)
        return markdown_to_html(text), bibtex

    def _write_graph(self, workflow):
        target = self.config.output_dir / 'logs' / f'graph-{self.id}.dot'
        try:
            workflow.write_graph(dotfilename=str(target), graph2use='colored', format='svg', simple_form=True)
        except OSError as error:
            LOGGER.warning('the graph is there as %s, but not as a picture: %s', target, error)

    def _write_pages(self, subjects, acquisitions):
        from dataclasses import asdict

        from qsmbids import __version__
        from qsmbids.reports.page import write_page
        states = {row['acquisition']: row for row in self.rows}
        settings = {k: v for k, v in asdict(self.config).items() if v is not None}
        methods, bibtex = self._read_methods()
        for subject in sorted(subjects):
            write_page(self.config.output_dir, subject,
                       [(a, states[a.name]) for a in acquisitions if a.subject == subject],
                       settings, methods, __version__, bibtex)

    def _finish(self):
        """Say what was made and what failed, and return the exit code."""
        if self.config.boilerplate_only:
            print(f'methods text: {self.config.output_dir / "logs" / "CITATION.md"}')
            return EXIT_COMPLETE if self.methods else EXIT_NO_INPUT
        self._write_status()
        print(summarise(self.config, self.rows, self.made, time.monotonic() - self.begun, self.id))
        if self.internal_error:
            return EXIT_INTERNAL
        if all(row['state'] == 'unusable' for row in self.rows):
            return EXIT_NO_INPUT
        return EXIT_FAILED if any(row['state'] != 'complete' for row in self.rows) else EXIT_COMPLETE


def _check_weights(config):
    """Raise FileError unless the networks that will run have their weights, before anything is computed."""
    from qsmbids.networks.shipped import shipped
    for name in config.weights:
        shipped(name)


def _check_templates(config):
    """Raise FileError unless templates that will be used, and what registers them, are there."""
    from qsmbids.templates import check_engine, find_atlas, find_space
    atlas = config.atlas if config.subcortical in ('auto', 'atlas') else None
    spaces = [space for space in config.output_spaces if space != 'native']
    if atlas or spaces:
        check_engine()
    if atlas:
        find_atlas(atlas)
    for space in spaces:
        find_space(space)


def _set_up_logging(verbose):
    logging.basicConfig(format='%(asctime)s %(levelname)s %(name)s: %(message)s', datefmt='%H:%M:%S')
    LOGGER.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)


def _check_writable(folder):
    probe = folder / f'.write-test-{uuid.uuid4()}'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f'{folder}: the output directory cannot be written to ({error.strerror}); '
                      'correct its permissions or choose another') from None
