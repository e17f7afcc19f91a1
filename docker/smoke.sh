#!/usr/bin/env bash
# Does a built image do its job where a cluster puts it? Everything below runs through docker/run.sh.
#   docker/smoke.sh [IMAGE]        qsmbids by default; about a minute
set -euo pipefail

image=${1:-qsmbids}
here=$(cd "$(dirname "$0")" && pwd)
uid=${RUN_UID:-4242}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
install -d -o "$uid" -g "$uid" "$folder/out" "$folder/work"
mounts=(--ro-bind "$here/../data/testbids" /data --bind "$folder/out" /out --bind "$folder/work" /work)

run() { "$here/run.sh" "$image" "${mounts[@]}" "$@"; }
python() { run -- --command python -c "$1"; }
check() { echo "smoke: $1"; shift; "$@" || { echo 'smoke: FAILED' >&2; exit 1; }; }
fails_with() { local code=0; "${@:2}" || code=$?; [ "$code" -eq "$1" ]; }

check 'the box is a box: read-only root, no HOME, no network, no privilege' python "
import os, socket
assert os.getuid() == $uid and 'HOME' not in os.environ
for path in ('/', '/opt/qsmbids', '/tmp', '/data'):
    assert not os.access(path, os.W_OK), path
assert [name for _, name in socket.if_nameindex()] == ['lo']"
run -- --help > "$folder/help"
check 'help' grep -q -- --participant-label "$folder/help"
check 'three participants' run -- /data /out participant --participant-label 01 02 03 -w /work 2>&1 | tee "$folder/log"
check 'no warning about a place that cannot be written' fails_with 1 grep -i 'not a writable' "$folder/log"
check 'a page and maps for each' test "$(ls "$folder"/out/sub-0[123].html | wc -l)" -eq 3 \
  -a "$(find "$folder/out" -name '*Chimap.nii.gz' | wc -l)" -ge 4
check 'no kernel was compiled' python "
import os, pathlib
def kernels(folder):
    return {(p.name, p.stat().st_size, int(p.stat().st_mtime)) for p in pathlib.Path(folder).rglob('*.nb[ic]')}
image, used = kernels(os.environ['NUMBA_CACHE_DIR']), kernels('/work')
assert image and used == image, sorted(used ^ image)"
check 'group' run -- /data /out group
check 'the broken participant is told from the sound ones' fails_with 65 \
  run -- /data /out participant --participant-label broken -w /work
check 'one step on plain files, with /tmp as the only place to write' run --perms 1777 --tmpfs /tmp -- \
  --command qsmbids-tool mask --magnitude /data/sub-03/anat/sub-03_part-mag_T2starw.nii.gz -o /out/mask.nii.gz
echo 'smoke: all passed'
