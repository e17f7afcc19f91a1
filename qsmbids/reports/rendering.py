"""Pages from the templates of the package: one file, that runs its own script and nothing else."""

import base64
import hashlib
from importlib.resources import files


def render(template, *, script, **content):
    """Return a page of the package's data.

    Parameters
    ----------
    template : str
        Name of the ``.html.jinja``, which places ``style``, ``script`` and its ``script_hash``.
    script : str
        Name of the ``.js``.
    **content
        What the template shows; escaped there.

    Returns
    -------
    str
    """
    from jinja2 import Environment
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters['plain'] = plain
    folder = files('qsmbids').joinpath('data')
    code = folder.joinpath(f'{script}.js').read_text(encoding='utf-8')
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode('ascii')
    style = folder.joinpath('page.css').read_text(encoding='utf-8')
    source = folder.joinpath(f'{template}.html.jinja').read_text(encoding='utf-8')
    return environment.from_string(source).render(script=code, script_hash=f'sha256-{digest}', style=style, **content)


def plain(value):
    """Return a value as a person writes it."""
    if value is None or value == '':
        return 'n/a'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.9g}'
    if isinstance(value, dict):
        return '; '.join(f'{name}: {plain(item)}' for name, item in value.items()) or 'none'
    if isinstance(value, (list, tuple)):
        return ', '.join(map(plain, value)) or 'none'
    return str(value)
