import re

import pytest

from qsmbids.core import methods
from qsmbids.reports.methods import bibliography

TABLES = [methods.UNWRAPPING, methods.BACKGROUND, methods.INVERSION, methods.RELAXOMETRY, methods.OFFSETS,
          methods.ECHO_FITS, methods.SWI, methods.SEPARATION, methods.MASKING]
EVERY = [(name, method) for table in TABLES for name, method in table.items()]


@pytest.mark.parametrize('name, method', EVERY, ids=[name for name, _ in EVERY])
def test_every_method_exists_and_is_cited(name, method):
    if method.location:
        assert callable(method.load())
        assert all(re.fullmatch(r'[a-z]\w*', parameter) for parameter in method.parameters())
    assert set(method.citations) <= set(bibliography())
    assert name.isalnum(), 'it becomes a desc- value'


def test_parameters_are_the_defaults_but_for_what_is_chosen():
    tv = methods.INVERSION['tv']
    assert tv.parameters({'lambda': 0.5}) == tv.parameters() | {'lambda': 0.5}
    assert tv.arguments({'lambda': 0.5}) == tv.arguments({'lambda_': 0.5}) == {'lambda_': 0.5}
    with pytest.raises(ValueError, match='has no parameter colour'):
        tv.parameters({'colour': 1})
