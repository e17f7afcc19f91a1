#!/usr/bin/env bash
# The image that the Dockerfile starts from, where no hub can be reached: a minimal Debian under the hub's name.
#   docker/base.sh            needs root, buildah and debootstrap
# MIRROR=URL takes Debian's packages from elsewhere.
set -euo pipefail

name=docker.io/library/debian:bookworm-slim
root=$(mktemp -d /var/tmp/qsmbids-base.XXXXXX)
container=
finish() {
  [ -z "$container" ] || buildah rm "$container" > /dev/null
  rm -rf "$root"
}
trap finish EXIT

chmod 755 "$root"
debootstrap --variant=minbase bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}"
echo 'deb http://deb.debian.org/debian bookworm main' > "$root/etc/apt/sources.list"
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/{doc,info,locale,man}/*

container=$(buildah from scratch)
buildah add --quiet "$container" "$root" / > /dev/null
buildah config --cmd bash "$container"
buildah commit --quiet "$container" "$name"
