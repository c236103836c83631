#!/bin/bash
# usage: initrd.sh ROOT FOLDER
# initrd.img: systemd, udev and what waits for a root and measures phases, from the root itself.
set -eu
root=$(realpath "$1") folder=$(realpath "$2") work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"
programs=(
  usr/bin/{bash,systemctl,journalctl,udevadm,systemd-tmpfiles,mount,umount,kmod,sulogin}
  usr/lib/systemd/systemd{,-executor,-udevd,-journald,-pcrextend,-modules-load,-shutdown,-sysroot-fstab-check}
  usr/lib/systemd/system-generators/systemd-fstab-generator
)
# Opened with dlopen(3): kernel modules, and the TPM.
libraries=(usr/lib/x86_64-linux-gnu/{libkmod.so.2,libtss2-{esys,rc,mu,tcti-device}.so.0})
found=()
for program in "${programs[@]}" "${libraries[@]}"; do [ -e "$program" ] && found+=("$program"); done
needed=$(for file in "${found[@]}"; do chroot . ldd "/$file" 2> /dev/null || true; done |
  grep -o '/[^ ]*' | sort -u | sed 's|^/lib|/usr/lib|; s|^/||')
mkdir -p "$work"/{usr/bin,usr/lib,etc,dev,proc,sys,run,tmp,sysroot,var,root}
for link in bin:usr/bin sbin:usr/bin lib:usr/lib lib64:usr/lib64; do ln -s "${link#*:}" "$work/${link%%:*}"; done
ln -s bin "$work/usr/sbin"
ln -s ../run "$work/var/run"
copy() { tar -C "$root" --dereference --hard-dereference -cf - -- "$@" | tar -C "$work" -xf -; }
copy "${found[@]}" $needed usr/lib64/ld-linux-x86-64.so.2
tar -C "$root" -cf - usr/lib/systemd/system usr/lib/modules usr/lib/modprobe.d etc/passwd etc/group etc/nsswitch.conf \
  usr/lib/tmpfiles.d/{20-systemd-stub,systemd,static-nodes-permissions}.conf \
  usr/lib/udev/rules.d/{50-udev-default,60-block,60-persistent-storage,60-tpm-udev,99-systemd}.rules |
  tar -C "$work" -xf -
for name in modprobe insmod; do ln -sf kmod "$work/usr/bin/$name"; done
ln -sf bash "$work/usr/bin/sh"
ln -s usr/lib/systemd/systemd "$work/init"
printf 'ID=initrd\nVERSION_ID=1\n' > "$work/etc/initrd-release"
ln -s initrd-release "$work/etc/os-release"
: > "$work/etc/machine-id"
mkdir -p "$work/etc/systemd/system"
for unit in \
  systemd-battery-check.service systemd-bsod.service systemd-hwdb-update.service systemd-vconsole-setup.service \
  systemd-random-seed.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service \
  systemd-network-generator.service systemd-hibernate-clear.service systemd-pstore.service \
  systemd-ask-password-console.path systemd-sysctl.service systemd-sysusers.service ldconfig.service \
  proc-sys-fs-binfmt_misc.automount tmp.mount systemd-udev-load-credentials.service systemd-creds.socket \
  systemd-hostnamed.socket systemd-pcrlock.socket systemd-sysext.socket systemd-initctl.socket dev-hugepages.mount \
  dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
  sys-kernel-config.mount kmod-static-nodes.service modprobe@.service; do
  ln -sf /dev/null "$work/etc/systemd/system/$unit"
done
mkdir -p "$work/etc/modules-load.d"
printf 'virtio_blk\nefivarfs\n' > "$work/etc/modules-load.d/machine.conf"
# Each device costs a second of an emulated processor.
few=etc/systemd/system/systemd-udev-trigger.service.d
mkdir -p "$work/$few"
cp $few/few.conf "$work/$few/"
pack() {
  (cd "$work" && find . -print0 | sort -z | cpio --null --reproducible -o -H newc --quiet) | zstd -q -12 -T0 -f -o "$1"
}
pack "$folder/initrd.img"
mkdir -p "$work/etc/udev/rules.d"
echo '# tampered with' > "$work/etc/udev/rules.d/10-other.rules"
pack "$folder/other-initrd.img"
