import json
import shutil
import subprocess

import pytest


@pytest.fixture(scope='session')
def validator_errors():
    """What the BIDS validator calls errors in a data set: (code, field, file)."""
    program = shutil.which('bids-validator-deno')
    if program is None:
        pytest.skip('bids-validator-deno is not installed (pip install qsmbids[test])')

    def validate(root):
        run = subprocess.run([program, str(root), '--ignoreNiftiHeaders', '--json'], capture_output=True, text=True)
        issues = json.loads(run.stdout)['issues']['issues']
        return [(i['code'], i.get('subCode'), i.get('location')) for i in issues if i['severity'] == 'error']
    return validate
