#!/bin/sh -eu
# usage: file-system.sh ROOT DEB TARGET       an ext4 file system of ROOT with the package, without a loop device
exec unshare --mount --pid --fork --kill-child sh -euc '
root=$1 deb=$2 target=$3
layer=$(mktemp -d)
mount -t tmpfs tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
cp "$deb" "$layer/root/package.deb"
mount -t proc proc "$layer/root/proc"
chroot "$layer/root" dpkg --install /package.deb >&2
umount "$layer/root/proc"
rm "$layer/root/package.deb"
# mmdebstrap leaves none; with one that lasts, one journal has all boots.
od -An -tx1 -N16 /dev/urandom | tr -d " \\n" > "$layer/root/etc/machine-id"
echo >> "$layer/root/etc/machine-id"
# Only images are made with them.
rm -rf "$layer"/root/usr/lib/python3* "$layer/root/boot/vmlinuz"
truncate -s 600M "$target"
mkfs.ext4 -q -L root -E lazy_itable_init=1,lazy_journal_init=1 -d "$layer/root" "$target"
umount -R "$layer"
rmdir "$layer"' sh "$@"
