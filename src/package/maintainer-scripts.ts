/**
 * The scripts that dpkg runs when it installs or removes the package. Without a running systemd (a chroot, an image)
 * they start nothing.
 */

/** Units to start. */
const units = 'auxcred.socket auxcred-stage.socket auxcred-rotate.timer';
/** They stay active once they have written the secrets with `delivery = "file"`. */
const fileWriters = 'auxcred-files.service auxcred-user-files.service';
/** Units to enable: one of them binds the seed at the first boot of an installation. */
const enabled = `${units} auxcred-bind.service`;

/** A broker that holds locked seeds stays: no other one could open them before the next boot. */
const stopBroker = `stop_broker() {
    [ "$(systemctl show --value --property=RefuseManualStop auxcred.service)" = yes ] ||
        deb-systemd-invoke stop auxcred.service auxcred.socket auxcred-stage.socket > /dev/null || true
}`;

const postinst = `#!/bin/sh
set -e
${stopBroker}
# Whatever this is called for: prerm has removed the cache, or Node is another one. Without it each command starts slower,
# and does the same. NODE_OPTIONS of this session would make a cache that calls without them can't use.
env -u NODE_OPTIONS /usr/bin/node /usr/lib/auxcred/code-cache.cjs || true
[ "$1" = configure ] || exit 0

systemd-sysusers auxcred.conf
# The folders below /run can wait for the boot where there is no /run yet.
systemd-tmpfiles --create auxcred.conf || [ ! -d /run/systemd/system ]

for unit in ${enabled}; do
    deb-systemd-helper unmask "$unit" > /dev/null || true
    # An administrator's systemctl disable survives an upgrade.
    if deb-systemd-helper --quiet was-enabled "$unit"; then
        deb-systemd-helper enable "$unit" > /dev/null || true
    else
        deb-systemd-helper update-state "$unit" > /dev/null || true
    fi
done

if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload > /dev/null || true
    # The next request starts the new version. The sockets are stopped too, since their paths may be others: a unit whose
    # request is under way just then fails to start.
    [ -z "$2" ] || stop_broker
    deb-systemd-invoke start ${units} > /dev/null || true
fi

# What to do next, as the last line of a first installation.
if [ -z "$2" ]; then
    if [ -e /var/lib/auxcred/seeds.age ]; then
        next='auxcred apply'
    elif [ -c /dev/tpmrm0 ]; then
        next='auxcred seal --with-key=tpm2 --print-words'
    else
        next='auxcred seal --print-words'
    fi
    echo "auxcred: next: $next    (man auxcred; the guide is in /usr/share/doc/auxcred/docs)"
fi
`;

const prerm = `#!/bin/sh
set -e
${stopBroker}
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    # postrm unmounts the files. A unit that needs them has them written again if auxcred is installed again.
    deb-systemd-invoke stop ${units} auxcred.service ${fileWriters} > /dev/null || true
fi
# Version 0.1 has a socket of another name, and its postinst does not restart the one that listens.
if [ "$1" = upgrade ] && dpkg --compare-versions "$2" lt 0.2 && [ -d /run/systemd/system ]; then
    stop_broker
fi
rm -rf /usr/lib/auxcred/code-cache
`;

const postrm = `#!/bin/sh
set -e
case $1 in
    remove)
        # Their drop-ins went with the generator.
        lost=$(ls /etc/auxcred/rendered/units 2> /dev/null | sed -n 's/\\.service\\.d$/.service/p' | tr '\\n' ' ')
        if [ -n "$lost" ]; then
            echo "auxcred: these units no longer get secrets, and those that need them will not start: $lost"
        fi
        if [ -d /run/systemd/system ]; then
            systemctl --system daemon-reload > /dev/null || true
        fi
        rm -f /run/auxcred/encrypted.sock /run/auxcred/stage.sock
        if mountpoint -q /run/auxcred/files; then
            umount -l /run/auxcred/files || true
        fi
        ;;
    purge)
        if command -v deb-systemd-helper > /dev/null; then
            deb-systemd-helper purge ${enabled} > /dev/null || true
        fi
        rm -rf /etc/auxcred/rendered /etc/auxcred/rendered.new /etc/auxcred/.rendered.*
        rm -f /var/lib/auxcred/lock /etc/credstore.encrypted/auxcred.*
        # The journal stays, and the public keys still tell whether it is whole.
        rm -rf /var/lib/auxcred-audit
        # The seed may be the only one: no secret can be derived again without it.
        if [ -e /var/lib/auxcred/seeds.age ]; then
            openers="/etc/auxcred /etc/systemd/system/auxcred.service.d"
            echo "auxcred: the sealed seed stays in /var/lib/auxcred, and what opens it in $openers"
            echo "auxcred: this removes it for ever, with every secret that comes from it: rm -rf /var/lib/auxcred $openers"
        else
            rmdir --ignore-fail-on-non-empty /etc/auxcred/secrets.d /etc/auxcred /var/lib/auxcred 2> /dev/null || true
        fi
        ;;
esac
`;

/** What runs `postinst triggered`: another Node can't use the code cache that this one made. */
export const triggers = 'interest-noawait /usr/bin/node\n';

export const maintainerScripts: Readonly<Record<'postinst' | 'prerm' | 'postrm', string>> = { postinst, prerm, postrm };
