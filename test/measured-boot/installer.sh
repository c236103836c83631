#!/bin/sh -eu
# usage: installer.sh ROOT NODE PROGRAM DEVICE PUBLIC-KEY RECIPIENT       what an installer does for auxcred in the new system's root
root=$1 node=$2 program=$3 device=$4 key=$5 recipient=$6
"$node" "$program" seal --root="$root" --with-key=tpm2 --tpm2-device="$device" --tpm2-public-key="$key" --tpm2-pcrs=7 --recipient="$recipient"
"$node" "$program" apply --root="$root"
