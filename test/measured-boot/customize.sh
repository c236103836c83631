#!/bin/sh -eu
# usage: customize.sh ROOT SCRIPTS       the agent, three probes, a manifest for them, and nothing that only takes time
root=$1 scripts=$2
units=$root/etc/systemd/system
install -m 755 "$scripts/agent.sh" "$root/usr/local/lib/agent"
install -m 755 "$scripts/probe.sh" "$root/usr/local/lib/probe"
cat > "$units/agent.service" <<'UNIT'
[Unit]
DefaultDependencies=no
BindsTo=dev-virtio\x2dports-agent.device
After=dev-virtio\x2dports-agent.device
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStart=/usr/local/lib/agent
Restart=always
[Install]
WantedBy=sysinit.target
UNIT
echo 'SUBSYSTEM=="virtio-ports", TAG+="systemd"' > "$root/etc/udev/rules.d/90-agent.rules"
probe() { # NAME TARGET LINE...
  name=$1 target=$2
  shift 2
  {
    echo '[Unit]'
    printf '%s\n' "$@"
    printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=300\nExecStart=/usr/local/lib/probe %%N\n'
    printf '[Install]\nWantedBy=%s\n' "$target"
  } > "$units/$name.service"
}
probe early sysinit.target DefaultDependencies=no After=local-fs.target Before=sysinit.target
probe normal multi-user.target
probe late multi-user.target After=systemd-pcrphase.service
mkdir -p "$units/auxcred.service.d"
# Under emulation everything takes ten times as long.
printf '[Service]\nTimeoutStartSec=300\n' > "$units/auxcred.service.d/emulated.conf"
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStartSec=300\nDefaultDeviceTimeoutSec=300\n' \
  > "$root/etc/systemd/system.conf.d/emulated.conf"
for unit in agent early normal late; do chroot "$root" systemctl --quiet enable $unit.service; done
echo machine > "$root/etc/hostname"
echo 2e2922c6ad474d8e989f9d561fe1c623 > "$root/etc/machine-id"
printf '%s\n' 'PARTLABEL=root / ext4 rw,noatime 0 0' \
  'PARTLABEL=esp /efi vfat umask=0077,noauto,x-systemd.automount 0 0' > "$root/etc/fstab"
mkdir -p "$root/efi" "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=persistent\n' > "$root/etc/systemd/journald.conf.d/persistent.conf"
for unit in \
  serial-getty@ttyS0.service getty@tty1.service console-getty.service getty.target systemd-binfmt.service \
  systemd-hwdb-update.service ldconfig.service systemd-firstboot.service systemd-timesyncd.service \
  systemd-journal-catalog-update.service systemd-update-done.service systemd-update-utmp.service \
  systemd-logind.service systemd-network-generator.service systemd-networkd.service systemd-networkd.socket \
  systemd-bsod.service systemd-user-sessions.service systemd-initctl.socket systemd-creds.socket \
  systemd-hostnamed.socket systemd-sysext.socket systemd-udev-load-credentials.service kmod-static-nodes.service \
  modprobe@efi_pstore.service proc-sys-fs-binfmt_misc.automount apt-daily.timer apt-daily-upgrade.timer \
  dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dev-hugepages.mount dev-mqueue.mount \
  sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount modprobe@configfs.service \
  modprobe@fuse.service modprobe@drm.service sys-kernel-config.mount; do
  ln -sf /dev/null "$units/$unit"
done
# A second of an emulated processor for each device: only those that somebody waits for.
mkdir -p "$units/systemd-udev-trigger.service.d"
{
  printf '[Service]\nExecStart=\nExecStart=-udevadm trigger --type=all --action=add'
  printf ' --subsystem-match=%s' block tpm tpmrm virtio-ports
  echo
} > "$units/systemd-udev-trigger.service.d/few.conf"
# Tests that want a prediction make it themselves.
for unit in "$root"/usr/lib/systemd/system/systemd-pcrlock-*.service; do ln -sf /dev/null "$units/${unit##*/}"; done
rm -rf "$root"/var/cache/apt/archives "$root"/var/lib/apt/lists "$root"/etc/resolv.conf "$root"/var/lib/dbus
