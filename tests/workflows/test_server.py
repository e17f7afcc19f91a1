"""The server has imported what workers need before the first of them starts."""

import subprocess
import sys

import pytest

CODE = '''
import sys
from qsmbids.workflows.server import start_server

def loaded(queue):
    queue.put([name for name in ('torch', 'nipype', 'matplotlib') if name in sys.modules])

if __name__ == '__main__':
    context = start_server({networks})
    assert 'nipype' not in sys.modules, 'the caller does not wait for imports'
    queue = context.SimpleQueue()
    process = context.Process(target=loaded, args=(queue,))
    process.start()
    print(*queue.get())
    process.join()
'''


@pytest.mark.parametrize('networks', [False, True])
def test_workers_find_what_they_need(networks, tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(CODE.format(networks=networks))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*(['torch'] if networks else []), 'nipype', 'matplotlib']
