#!/bin/bash
# Records what a unit found when it started: a digest of each credential, and the PCRs of that moment.
mkdir -p /run/probe
{
  for file in "$CREDENTIALS_DIRECTORY"/*; do echo "credential ${file##*/} $(sha256sum < "$file" | cut -c 1-16)"; done
  for pcr in 7 11; do echo "pcr $pcr $(< /sys/class/tpm/tpm0/pcr-sha256/$pcr)"; done
} > "/run/probe/$1"
