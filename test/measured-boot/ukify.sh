#!/bin/sh -eu
# usage: ukify.sh ROOT FOLDER ARGUMENT...
# A unified kernel image by the root's own ukify, which sees FOLDER at /mnt
exec unshare --mount sh -euc '
root=$1 folder=$2
shift 2
mount --bind "$folder" "$root/mnt"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
exec chroot "$root" ukify build --linux=/boot/vmlinuz --uname="$(ls "$root/usr/lib/modules")" \
  --os-release=@/etc/os-release --pcr-banks=sha256 --efi-arch=x64 "$@"' sh "$@"
