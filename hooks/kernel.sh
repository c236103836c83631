#!/bin/sh
# Prepares the seed for the installed kernels after one was added or removed. It never fails: the kernel stays
# installed, and auxcred doctor shows what went wrong.
store=/var/lib/auxcred
if [ ! -e "$store/seeds.age" ] || [ ! -d /run/systemd/system ] || [ ! -x @bindir@/auxcred ]; then
    exit 0
fi
@bindir@/auxcred reseal --installed >&2 && exit 0
status=$?
# If the program could not even start, it recorded nothing.
if [ ! -e "$store/unprepared.json" ]; then
    printf '{"message":"auxcred reseal --installed ended with status %s","time":"%s","version":1}\n' \
        "$status" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" > "$store/unprepared.json"
fi
echo "auxcred: WARNING: the seed is not prepared for the installed kernels" >&2
echo "auxcred: WARNING: after the next boot, units may not get their secrets; run auxcred doctor before it" >&2
exit 0
