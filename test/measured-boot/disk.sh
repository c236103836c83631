#!/bin/sh -eu
# usage: disk.sh FILESYSTEM IMAGES TARGET       GPT: an ESP with systemd-boot and the installed image, and the root
fs=$1 images=$2 target=$3 esp=$3.esp
truncate -s 96M "$esp"
mkfs.vfat -F 32 -n ESP "$esp" > /dev/null
mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/EFI/systemd ::/EFI/Linux ::/EFI/new ::/loader ::/loader/keys
mcopy -i "$esp" "$images/loader.efi" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$esp" "$images/loader.efi" ::/EFI/systemd/systemd-bootx64.efi
mcopy -i "$esp" "$images/installed.efi" ::/EFI/Linux/system.efi
mcopy -i "$esp" "$images/updated.efi" ::/EFI/new/system.efi
printf 'timeout 0\nsecure-boot-enroll force\n' > "$esp.conf"
mcopy -i "$esp" "$esp.conf" ::/loader/loader.conf
rm "$esp.conf"
rm -f "$target"
truncate -s $((98 * 1048576 + $(stat -c %s "$fs"))) "$target"
sgdisk -n 1:2048:+96M -t 1:ef00 -c 1:esp -n 2:0:0 -t 2:8304 -c 2:root "$target" > /dev/null
dd if="$esp" of="$target" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$fs" of="$target" bs=1M seek=97 conv=notrunc,sparse status=none
rm "$esp"
