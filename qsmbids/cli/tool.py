"""``qsmbids-tool STEP``: one step of the pipeline on plain NIfTI files."""

import argparse
import ast
import os
import sys
from pathlib import Path

from qsmbids.cli.about import add_about
from qsmbids.cli.environment import run_command
from qsmbids.core.methods import BACKGROUND, ECHO_FITS, INVERSION, MASKING, OFFSETS, RELAXOMETRY, UNWRAPPING
from qsmbids.files import FileError

UNITS = ('ppm', 'Hz', 'rad')


def build_parser():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(prog='qsmbids-tool', allow_abbrev=False,
                                     description='One step of the pipeline of qsmbids on plain NIfTI files.')
    add_about(parser)
    steps = parser.add_subparsers(dest='step', required=True, metavar='STEP')
    unwrap = _step(steps, 'unwrap', run_unwrap, 'unwrap phase; output in rad', UNWRAPPING)
    field = _step(steps, 'field', run_field, 'total field from multi-echo phase', UNWRAPPING)
    mask = _step(steps, 'mask', run_mask, 'brain mask from the magnitude', MASKING)
    background = _step(steps, 'background', run_background, 'remove the background field', BACKGROUND)
    invert = _step(steps, 'invert', run_invert, 'susceptibility in ppm from the local field', INVERSION)
    r2star = _step(steps, 'r2star', run_r2star, 'R2* in 1/s from the magnitude', RELAXOMETRY)
    swi = _step(steps, 'swi', run_swi, 'susceptibility-weighted image from the magnitude and the total field')
    separate = _step(steps, 'separate', run_separate, 'positive and negative sources of susceptibility in ppm')
    separate.add_argument('--chi', type=Path, required=True, help='susceptibility in ppm')
    separate.add_argument('--r2star', type=Path, required=True, help='R2* in 1/s')
    separate.add_argument('--r2-map', type=Path, help='R2map in 1/s or T2map in s; one R2 for all tissue otherwise')
    separate.add_argument('--mask', type=Path, help='where to compute; where the susceptibility is not zero otherwise')
    separate.add_argument('--b0', type=float, metavar='T', required=True, help='field strength in T')
    separate.add_argument('--output-negative', type=Path, help='negative sources')
    segment = _step(steps, 'segment', run_segment, 'label the deep nuclei in a susceptibility map, with a table of the '
                                                   'labels (TSV) beside')
    segment.add_argument('--chi', type=Path, required=True, help='susceptibility in ppm, any reference')
    segment.add_argument('--magnitude', type=Path, help='3D, of any echo; none needed')
    segment.add_argument('--r2star', type=Path, help='R2* in 1/s; none needed')
    segment.add_argument('--mask', type=Path, help='the brain; where the susceptibility is not zero otherwise')
    segment.add_argument('--weights', default='dgm', help='of the network: those that come along, or a file [dgm]')
    microbleeds = _step(steps, 'microbleeds', run_microbleeds, 'microbleeds, calcifications and what is taken for '
                        'them; research use only, not a diagnosis',
                        output='PREFIX of the files to write: PREFIX_lesions.tsv, PREFIX_counts.tsv, '
                               'PREFIX_mask.nii.gz, PREFIX_dseg.nii.gz, PREFIX_probseg.nii.gz, and their sidecars')
    microbleeds.add_argument('--chi', type=Path, help='susceptibility in ppm, any reference, 0 where it is not known')
    microbleeds.add_argument('--mask', type=Path, required=True, help='the brain, not eroded')
    microbleeds.add_argument('--r2star', type=Path, help='R2* in 1/s')
    microbleeds.add_argument('--swi', type=Path, help='susceptibility-weighted image, in the place of --r2star')
    microbleeds.add_argument('--field', type=Path, help='total field in ppm, which tells the sign of lesions without '
                             'signal')
    microbleeds.add_argument('--dseg', type=Path, help='label map of the deep nuclei; indices as in the TSV beside it, '
                                                       "FreeSurfer's without one")
    microbleeds.add_argument('--grading', default='cmb', metavar='rules|WEIGHTS',
                             help='rules, or the network: weights that come along, or a file [cmb]')
    for step in (unwrap, field):
        step.add_argument('--phase', type=Path, nargs='+', required=True,
                          help='one 4D file of all echoes, or one file per echo: 3D, or 4D with uncombined channels')
        step.add_argument('--phase-units', choices=('rad', 'arbitrary'),
                          help='of the phase; recognised by its range otherwise')
    for step, needed in ((unwrap, False), (field, False), (mask, True), (r2star, True), (swi, True)):
        step.add_argument('--magnitude', type=Path, nargs='+', required=needed, help='the same for the magnitude')
    for step, needed in ((unwrap, False), (field, True), (r2star, True), (swi, True), (background, False),
                         (invert, False)):
        step.add_argument('--echo-times', type=float, nargs='+', metavar='S', required=needed,
                          help='in seconds, one per echo' if step in (unwrap, field, r2star, swi) else
                               'echo time of a field in rad')
    for step in (background, invert, swi):
        step.add_argument('--field', type=Path, required=True, help='field map, 3D')
    for step, needed in ((field, True), (background, False), (invert, False)):
        step.add_argument('--b0', type=float, metavar='T', required=needed, help='field strength in T')
        step.add_argument('--units', choices=UNITS, default='ppm', help='of the field [ppm]')
    for step in (unwrap, field, background, invert, r2star, swi):
        step.add_argument('--mask', type=Path, help='where to compute; otherwise the brain by the magnitude, or '
                                                    'where the field is not zero')
    for step in (background, invert, swi):
        step.add_argument('--b0-dir', type=float, nargs=3, metavar=('X', 'Y', 'Z'),
                          help='direction of the main field in voxel axes; overrides the header')
    for step in (unwrap, field, mask, background, invert, swi, segment):
        step.add_argument('--voxel-size', type=float, nargs=3, metavar=('X', 'Y', 'Z'),
                          help='mm; overrides the header')
    invert.add_argument('--magnitude', type=Path, nargs='+', help='for methods that take edges from it: medi, medi0')
    invert.add_argument('--csf', type=Path, help='mask of ventricular fluid, for methods that make it uniform: medi0')
    for step in (field, background):
        step.add_argument('--output-mask', type=Path, help='where the result is known')
    field.add_argument('--phase-offset', choices=tuple(OFFSETS), default=next(iter(OFFSETS)),
                       help='removal of the coil phase offset [%(default)s]')
    field.add_argument('--echo-fit', choices=tuple(ECHO_FITS), default=next(iter(ECHO_FITS)),
                       help='combination of the echoes [%(default)s]')
    field.add_argument('--output-residual', type=Path, help='relative residual of the echo fit')
    r2star.add_argument('--output-t2star', type=Path, help='T2* in s')
    r2star.add_argument('--output-s0', type=Path, help='signal at echo time zero')
    swi.add_argument('--trusted', type=Path, help='mask of where the field is known; all of the mask otherwise')
    swi.add_argument('--output-minip', type=Path, help='minimum-intensity projection')
    return parser


def main(arguments=None):
    """Run one step and return its exit code: 0 done, 1 failed, 2 wrong command line."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    return run_command(f'qsmbids-tool {options.step}', lambda: _run_in_threads(options))


def _run_in_threads(options):
    from qsmbids.core.threads import use_threads
    with use_threads(options.nthreads or len(os.sched_getaffinity(0))):
        options.run(options)


def run_unwrap(options):
    from qsmbids.interfaces.images import save_array
    echoes = _load_echoes(options)
    mask = _mask(options, echoes)
    unwrapped = UNWRAPPING[options.method].load()(
        echoes.phase, mask, echo_times=_echo_times(options, echoes.phase.shape[3]), magnitude=echoes.magnitude,
        voxel_size=_voxel_size(options, options.phase[0]), **_parameters(options, UNWRAPPING))
    save_array(options.output, unwrapped, options.phase[0])


def run_field(options):
    from qsmbids.core.fieldmap import total_field
    from qsmbids.core.phase import center_frequency
    from qsmbids.interfaces.images import save_array
    echoes = _load_echoes(options)
    times = _echo_times(options, echoes.phase.shape[3])
    mask = _mask(options, echoes)
    result = total_field(echoes.phase, echoes.magnitude, times, mask,
                         _voxel_size(options, options.phase[0]), center_frequency(options.b0),
                         offset=options.phase_offset if len(times) > 1 else 'none', unwrapping=options.method,
                         fit=options.echo_fit)
    like = options.phase[0]
    save_array(options.output, _convert(result.field, options, times[-1], back=True), like)
    if options.output_mask:
        from qsmbids.core.masks import reliable_mask
        save_array(options.output_mask, reliable_mask(mask, result.residual, result.quality), like)
    if options.output_residual:
        save_array(options.output_residual, result.residual, like)


def run_mask(options):
    from qsmbids.core.masks import find_brain
    from qsmbids.headers import load_image
    from qsmbids.interfaces.images import load_echoes, save_array
    mask = find_brain(options.method, load_echoes(options.magnitude), _voxel_size(options, options.magnitude[0]),
                      load_image(options.magnitude[0]).affine, **_parameters(options, MASKING))
    save_array(options.output, mask, options.magnitude[0])


def run_background(options):
    from qsmbids.interfaces.images import save_array
    field, mask = _load_field(options)
    local, mask = BACKGROUND[options.method].load()(
        field, mask, _voxel_size(options, options.field), b0_dir=_b0_dir(options),
        **_parameters(options, BACKGROUND))
    save_array(options.output, _convert(local, options, _field_echo_time(options), back=True), options.field)
    if options.output_mask:
        save_array(options.output_mask, mask, options.field)


def run_invert(options):
    from qsmbids.core.echoes import combine_magnitude
    from qsmbids.core.inversion.solve import solve
    from qsmbids.interfaces.images import load_echoes, load_mask, save_array
    field, mask = _load_field(options)
    found = solve(options.method, field, mask, _voxel_size(options, options.field), b0_dir=_b0_dir(options),
                  magnitude=combine_magnitude(load_echoes(options.magnitude)) if options.magnitude else None,
                  csf=load_mask(options.csf) if options.csf else None, parameters=_parameters(options, INVERSION))
    for name in found.automatic:
        _notice(options, f'{name} is {found.parameters[name]:.3g}, chosen from the field')
    save_array(options.output, found.chi, options.field)


def run_r2star(options):
    from qsmbids.core.echoes import prepare_echoes
    from qsmbids.core.relaxometry import fit_r2star
    from qsmbids.interfaces.images import load_echoes, save_array
    echoes = prepare_echoes(load_echoes(options.magnitude))
    fit = fit_r2star(echoes.magnitude, _echo_times(options, echoes.magnitude.shape[3]), _mask(options, echoes),
                     method=options.method)
    if fit.method != options.method:
        _notice(options, f'{options.method} does not suit these echo times; {fit.method} was used')
    for path, volume in ((options.output, fit.r2star), (options.output_t2star, fit.t2star),
                         (options.output_s0, fit.s0)):
        if path:
            save_array(path, volume, options.magnitude[0])


def run_swi(options):
    from qsmbids.core.echoes import prepare_echoes
    from qsmbids.core.swi import weight_by_susceptibility
    from qsmbids.interfaces.images import load_array, load_echoes, load_mask, save_array
    echoes = prepare_echoes(load_echoes(options.magnitude))
    mask = _mask(options, echoes)
    result = weight_by_susceptibility(
        echoes.magnitude, load_array(options.field), mask, load_mask(options.trusted) if options.trusted else mask,
        _voxel_size(options, options.field), echo_times=_echo_times(options, echoes.magnitude.shape[3]),
        b0_dir=_b0_dir(options))
    for path, volume in ((options.output, result.swi), (options.output_minip, result.minip)):
        if path:
            save_array(path, volume, options.field)


def run_separate(options):
    from qsmbids.core.relaxometry import r2_prime
    from qsmbids.core.separation import separate_sources, tissue_r2
    from qsmbids.headers import check_grid
    from qsmbids.interfaces.images import load_array, load_mask, save_array
    from qsmbids.interfaces.relaxometry import load_r2
    check_grid(options.r2star, options.chi)
    chi = load_array(options.chi)
    mask = load_mask(options.mask) if options.mask else chi != 0
    if options.r2_map:
        r2 = load_r2(str(options.r2_map), options.mask or options.chi)
    else:
        r2 = tissue_r2(options.b0)
        _notice(options, f'no --r2-map: R2 is taken as {r2:.3g} per second everywhere, an estimate')
    sources = separate_sources(chi, r2_prime(load_array(options.r2star), r2, mask), mask, options.b0)
    for path, volume in ((options.output, sources.positive), (options.output_negative, sources.negative)):
        if path:
            save_array(path, volume, options.chi)


def run_segment(options):
    from qsmbids.core.labels import label_rows
    from qsmbids.core.phase import repair_nonfinite
    from qsmbids.files import write_tsv
    from qsmbids.headers import check_grid, load_image
    from qsmbids.interfaces.images import load_array, load_mask, save_array
    from qsmbids.networks.segmentation import segment
    others = {name: path for name in ('magnitude', 'r2star') if (path := getattr(options, name))}
    for path in others.values():
        check_grid(path, options.chi)
    chi, _ = repair_nonfinite(load_array(options.chi))
    mask = load_mask(options.mask) if options.mask else chi != 0
    labels = segment(chi, mask, _voxel_size(options, options.chi), affine=load_image(options.chi).affine,
                     weights=options.weights, **{name: load_array(path) for name, path in others.items()})
    save_array(options.output, labels, options.chi)
    rows = label_rows()
    name = options.output.name.removesuffix('.gz').removesuffix('.nii')
    write_tsv(options.output.with_name(f'{name}.tsv'), rows, list(rows[0]))


def run_microbleeds(options):
    from qsmbids.files import write_json
    from qsmbids.interfaces.microbleeds import SIDECARS, grading, take_census, write_census
    inputs = {'chi': options.chi, 'r2star': options.r2star, 'weighted': options.swi}
    if not any(inputs.values()):
        raise ValueError('give --chi, or --r2star or --swi without it')
    graded, classify = grading(None if options.grading == 'rules' else options.grading, options.chi)
    census = take_census(options.mask, regions=options.dseg, field=options.field, **inputs, classify=classify)

    def name(suffix, extension):
        return options.output.with_name(f'{options.output.name}_{suffix}{extension}')

    write_census(census, name, options.mask)
    said = {'Inputs': [kind for kind, path in inputs.items() if path], 'LowConfidence': census.low_confidence} | graded
    for suffix, sidecar in SIDECARS.items():
        write_json(name(suffix, '.json'), sidecar | (said if suffix not in ('lesions', 'counts') else {}))
    if census.low_confidence:
        _notice(options, 'low confidence: voxels are too long, or the sign of the susceptibility is not known')


def _step(steps, name, run, text, methods=None, output='NIfTI file to write'):
    step = steps.add_parser(name, help=text, description=f'{text[0].upper()}{text[1:]}.', allow_abbrev=False)
    step.set_defaults(run=run)
    step.add_argument('-o', '--output', type=Path, required=True, help=output)
    step.add_argument('--nthreads', type=int, help='cores to use [all of them]')
    if methods:
        default = next(iter(methods))
        step.add_argument('--method', choices=tuple(methods), default=default, help=f'how [{default}]')
        step.add_argument('-p', '--parameter', action='append', metavar='NAME=VALUE', default=[],
                          help="one of the method's parameters; may be repeated")
    return step


def _load_echoes(options):
    import tempfile

    from qsmbids.core.echoes import prepare_echoes
    from qsmbids.interfaces.channels import read_echoes
    from qsmbids.interfaces.images import load_echoes
    import numpy as np
    if options.magnitude:
        with tempfile.TemporaryDirectory() as folder:
            echoes = read_echoes({'magnitude': options.magnitude, 'phase': options.phase}, folder,
                                 echo_times=options.echo_times, voxel_size=_voxel_size(options, options.phase[0]),
                                 phase_units=options.phase_units)
    else:
        phase = load_echoes(options.phase)
        echoes = prepare_echoes(np.ones_like(phase), phase, phase_units=options.phase_units)
    for text in (*echoes.notes, *echoes.warnings):
        _notice(options, text)
    return echoes


def _load_field(options):
    """Return the field in ppm and the mask."""
    from qsmbids.core.phase import repair_nonfinite
    from qsmbids.interfaces.images import load_array, load_mask
    field, count = repair_nonfinite(load_array(options.field))
    if field.ndim != 3:
        raise FileError(f'{options.field}: a field map must be 3D, this one has the shape {field.shape}')
    if count:
        _notice(options, f'{count} voxels of the field were not finite and are set to zero')
    mask = load_mask(options.mask) if options.mask else field != 0
    if mask.shape != field.shape:
        raise FileError(f'{options.mask}: has the shape {mask.shape}, but {options.field} has {field.shape}')
    if not mask.any():
        raise FileError(f'{options.field}: the field is zero everywhere')
    return _convert(field, options, _field_echo_time(options)), mask


def _mask(options, echoes):
    from qsmbids.core.masks import brain_mask
    from qsmbids.interfaces.images import load_mask
    if options.mask:
        mask = load_mask(options.mask)
        if mask.shape != echoes.magnitude.shape[:3]:
            raise FileError(f'{options.mask}: has the shape {mask.shape}, but the images have '
                            f'{echoes.magnitude.shape[:3]}')
        return mask
    if options.magnitude:
        return brain_mask(echoes.magnitude, _voxel_size(options, options.magnitude[0]))
    return echoes.magnitude[..., 0] > 0


def _echo_times(options, count):
    from qsmbids.bids import ECHO_TIME_RANGE
    times = options.echo_times
    if times is None:
        if count > 1:
            raise ValueError(f'--echo-times: {count} echoes need {count} echo times, in seconds')
        return None
    if len(times) != count:
        raise ValueError(f'--echo-times: {len(times)} were given, but there are {count} echoes')
    if max(times) > ECHO_TIME_RANGE[1]:
        raise ValueError(f'--echo-times: {max(times):g} s is too long; give seconds, not milliseconds')
    return times


def _field_echo_time(options):
    if options.units == 'rad':
        if not options.echo_times or len(options.echo_times) != 1:
            raise ValueError('--units rad needs one --echo-times, that of the field')
        return options.echo_times[0]
    return None


def _convert(field, options, echo_time, back=False):
    """Convert a field from the units of the command line to ppm, or back."""
    from qsmbids.core import phase
    if options.units == 'ppm':
        return field
    if options.b0 is None:
        raise ValueError(f'--units {options.units} needs --b0, the field strength in T')
    frequency = phase.center_frequency(options.b0)
    if options.units == 'Hz':
        return (phase.ppm_to_hz if back else phase.hz_to_ppm)(field, frequency)
    return (phase.ppm_to_radians if back else phase.radians_to_ppm)(field, echo_time, frequency)


def _voxel_size(options, path):
    from qsmbids.core.dipole import voxel_size_of
    from qsmbids.headers import load_image
    return tuple(options.voxel_size) if options.voxel_size else voxel_size_of(load_image(path).affine)


def _b0_dir(options):
    from qsmbids.core.dipole import b0_direction
    from qsmbids.headers import load_image
    return tuple(options.b0_dir) if options.b0_dir else b0_direction(load_image(options.field).affine)


def _parameters(options, table):
    """Return the method's parameters as given, their names and values checked."""
    chosen = {}
    for pair in options.parameter:
        name, sign, text = pair.partition('=')
        if not sign:
            raise ValueError(f'--parameter takes NAME=VALUE, not {pair!r}')
        try:
            chosen[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            chosen[name] = text
    return table[options.method].arguments(chosen)


def _notice(options, text):
    print(f'qsmbids-tool {options.step}: {text}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
