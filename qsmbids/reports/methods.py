"""The methods text and its references."""

import html
import re
from importlib.resources import files

_ENTRY = re.compile(r'@\w+\{(\w+),(.*?)\n\}', re.DOTALL)
_FIELD = re.compile(r'(\w+)\s*=\s*\{(.*?)\}\s*(?:,|$)', re.DOTALL)
_CITATION = re.compile(r'\[((?:@\w+(?:; )?)+)\]')


def cite(method):
    """Return the title of a :class:`qsmbids.core.methods.Method` with its citations, such as ``ROMEO [@a; @b]``."""
    keys = '; '.join(f'@{key}' for key in method.citations)
    return f'{method.title} [{keys}]' if keys else method.title


def bibliography():
    """Return the packaged references: fields by key."""
    text = files('qsmbids').joinpath('data/boilerplate.bib').read_text(encoding='utf-8')
    return {key: {name.lower(): ' '.join(value.split()) for name, value in _FIELD.findall(body)}
            for key, body in _ENTRY.findall(text)}


def cited_keys(text):
    """Return the keys that a text cites, in the order of their first appearance."""
    return list(dict.fromkeys(re.findall(r'@(\w+)', ' '.join(_CITATION.findall(text)))))


def to_markdown(text):
    """Return the methods text with numbered citations and a list of references."""
    keys = cited_keys(text)
    library = bibliography()
    missing = [key for key in keys if key not in library]
    if missing:
        raise KeyError(f'data/boilerplate.bib lacks {", ".join(missing)}')
    body = _CITATION.sub(lambda found: '[' + ', '.join(str(keys.index(k) + 1) for k in
                                                       re.findall(r'@(\w+)', found[1])) + ']', text)
    references = '\n'.join(f'{number}. {_reference(library[key])}' for number, key in enumerate(keys, 1))
    return f'{body}\n\n## References\n\n{references}\n'


def to_html(text):
    """Return the same as escaped HTML paragraphs."""
    return markdown_to_html(to_markdown(text))


def markdown_to_html(markdown):
    """Return what :func:`to_markdown` gave as escaped HTML paragraphs."""
    body, _, references = markdown.partition('\n\n## References\n\n')
    items = ''.join(f'<li>{html.escape(line.partition(". ")[2])}</li>' for line in references.strip().split('\n'))
    return f'<p>{html.escape(body)}</p>\n<ol>{items}</ol>\n'


def to_bibtex(text):
    """Return the BibTeX entries that the text cites."""
    source = files('qsmbids').joinpath('data/boilerplate.bib').read_text(encoding='utf-8')
    wanted = set(cited_keys(text))
    return '\n\n'.join(found[0] for found in re.finditer(_ENTRY, source) if found[1] in wanted) + '\n'


def _reference(entry):
    where = ', '.join(entry[name] for name in ('journal', 'booktitle', 'publisher', 'volume', 'pages')
                      if name in entry)
    doi = f' doi:{entry["doi"]}' if 'doi' in entry else ''
    return f'{entry["author"].rstrip(".")}. {entry["title"].rstrip("?")}. {where}, {entry["year"]}.{doi}'
