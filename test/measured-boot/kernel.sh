#!/bin/sh -eu
# usage: kernel.sh ROOT
# The cloud kernel without its package's scripts, and the few modules that the machine has devices for.
root=$1 folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image.*\)/\1/p' | head -n 1)
apt-get -o APT::Sandbox::User=root download -q "$kernel"
dpkg-deb -x ./*.deb .
release=$(ls usr/lib/modules)
mkdir -p "$root/usr/lib/modules/$release/kernel"
cp boot/vmlinuz-* "$root/boot/vmlinuz"
cp usr/lib/modules/*/modules.builtin* usr/lib/modules/*/modules.order "$root/usr/lib/modules/$release/"
for module in virtio_blk fat vfat nls_ascii nls_cp437 efivarfs autofs4 virtio-rng; do
  find usr/lib/modules -name "$module.ko*" -exec cp {} "$root/usr/lib/modules/$release/kernel/" \;
done
# The kernel's and kmod's decompression are slow under emulation.
find "$root/usr/lib/modules" -name '*.xz' -exec unxz {} +
chroot "$root" depmod "$release"
