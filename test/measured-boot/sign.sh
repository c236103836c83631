#!/bin/sh -eu
# usage: sign.sh KEYS FILE       for Secure Boot, in place
sbsign --key "$1/db.key" --cert "$1/db.crt" --output "$2" "$2" 2> /dev/null
