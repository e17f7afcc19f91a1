#!/usr/bin/env bash
# Run a local image the way a cluster does: read-only root, no network, a user id that the image has never heard of,
# no HOME, the environment of the image alone.
#   docker/run.sh IMAGE [OPTIONS OF bwrap] -- [--command PROGRAM] ARGUMENTS
#   docker/run.sh qsmbids --ro-bind data/testbids /data --bind out /out --bind work /work -- \
#     /data /out participant -w /work
# Needs root, buildah and bubblewrap. The folders bound for writing must belong to user 4242 (RUN_UID sets another).
set -euo pipefail

uid=${RUN_UID:-4242}
image=$1
shift
options=()
while [ "$1" != -- ]; do options+=("$1"); shift; done
shift

inspect() { buildah inspect --type image --format "$1" "$image"; }
if [ "${1-}" = --command ]; then
  command=("$2")
  shift 2
else
  mapfile -t command < <(inspect '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}' | sed '/^$/d')
fi
while IFS='=' read -r name value; do
  [ -z "$name" ] || options+=(--setenv "$name" "$value")
done < <(inspect '{{range .OCIv1.Config.Env}}{{println .}}{{end}}')

container=$(buildah from --pull-never "$image")
trap 'buildah umount "$container" > /dev/null; buildah rm "$container" > /dev/null' EXIT
root=$(buildah mount "$container")
bwrap --ro-bind "$root" / --proc /proc --dev /dev --perms 1777 --tmpfs /dev/shm \
  --unshare-net --unshare-pid --unshare-ipc --die-with-parent \
  --chdir "$(inspect '{{.OCIv1.Config.WorkingDir}}')" --cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID \
  --clearenv "${options[@]}" -- \
  setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all "${command[@]}" "$@"
