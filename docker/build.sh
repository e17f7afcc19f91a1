#!/usr/bin/env bash
# Build the image of this checkout with buildah: no daemon, no hub (docker/base.sh makes the base), root in a chroot.
#   docker/build.sh [TAG] [OPTIONS OF buildah build]        qsmbids by default
# The host's certificates and pip settings hold while the build runs; neither gets into the image.
# Where the overlay file system does not work (inside some containers): STORAGE_DRIVER=vfs docker/build.sh
set -euo pipefail

tag=${1:-qsmbids}
source=$(cd "$(dirname "$0")/.." && pwd)
settings=$(mktemp -d)
trap 'rm -rf "$settings"' EXIT
chmod 755 "$settings"
options=(--isolation chroot --network host --pull-never --layers=false --tag "$tag" --build-arg "TAG=$tag")

# pip reads one file; what the host says in files and in the environment is joined in it.
certificates=/etc/ssl/certs/ca-certificates.crt
{
  echo '[global]'
  pip config list 2> /dev/null |
    sed -nE "s/^(global|:env:)\.(index-url|extra-index-url|find-links|trusted-host|default-timeout)='(.*)'$/\2 = \3/p" |
    sort -u -t= -k1,1
  [ ! -f "$certificates" ] || echo "cert = /run/host-certificates.crt"
} > "$settings/pip.conf"
options+=(--volume "$settings/pip.conf:/etc/pip.conf:ro")
[ ! -f "$certificates" ] || options+=(--volume "$certificates:/run/host-certificates.crt:ro")

# Local package folders that those settings name; an index in "simple" points to files beside it.
while read -r folder; do
  [ ! -d "$folder" ] || options+=(--volume "$folder:$folder:ro")
done < <(grep -oE '(= | |file://)/[^ ]+' "$settings/pip.conf" |
  sed -E 's#^[^/]*(file://)?/#/#; s#/simple/?$##' | sort -u)

for variable in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  [ -z "${!variable-}" ] || options+=(--build-arg "$variable=${!variable}")
done
buildah build "${options[@]}" "${@:2}" "$source"
