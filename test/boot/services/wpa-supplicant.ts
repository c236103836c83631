import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Machine } from '../../machine/machine.ts';
import type { Service } from './service.ts';

const usersOf = (password: string): string => `* PEAP\n"web1" MSCHAPV2 "${password}" [2]\n`;

/** The other end of the wire: an authenticator with a RADIUS server in it. */
const hostapd = `driver=wired
interface=port0
ieee8021x=1
eapol_version=2
use_pae_group_addr=1
eap_server=1
eap_user_file=/run/radius/users
server_cert=/run/radius/certificate.pem
private_key=/run/radius/key.pem
`;

/** A self-signed certificate of the RADIUS server, and its key, in PEM. */
function certificate(): { readonly certificate: string; readonly key: string } {
  const { status, stdout, stderr } = spawnSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'],
      ...['-subj', '/CN=radius.example.org', '-addext', 'subjectAltName=DNS:radius.example.org', '-keyout', '-'],
    ],
    { encoding: 'utf8' },
  );
  const [key, made] = stdout.split(/(?=-----BEGIN CERTIFICATE)/);
  if (status !== 0 || key === undefined || made === undefined) throw new Error(`openssl: ${stderr}`);
  return { certificate: made, key };
}

/** A login over a wire; no kernel here has a radio. */
export const wpaSupplicant: Service = {
  name: 'wpa-supplicant',
  units: [],
  secret: 'dot1x',
  async prepare(machine) {
    const server = certificate();
    await machine.write('/etc/ssl/certs/radius.pem', server.certificate);
    await machine.write('/run/radius/certificate.pem', server.certificate);
    await machine.write('/run/radius/key.pem', server.key);
    await machine.write('/run/radius/hostapd.conf', hostapd);
    await machine.shell(
      [
        'ip link add eth0 type veth peer name port0',
        // A wire by the name of a radio, of which nothing is asked.
        'ip link add wlan0 type veth peer name port1',
        'ip link set eth0 up',
        'ip link set port0 up',
        // No udev in a container: systemd would wait for the card's unit for ever.
        'unit=wpa_supplicant-wired@.service',
        "sed '/sys-subsystem-net-devices/d' /usr/lib/systemd/system/$unit > /etc/systemd/system/$unit",
        'printf "correct horse # battery" | auxcred put wifi',
      ].join('\n'),
    );
  },
  async accepts(machine, value) {
    await machine.write('/run/radius/users', usersOf(value));
    await machine.shell(
      'systemctl stop radius 2>/dev/null || true; systemd-run -q --collect -u radius hostapd /run/radius/hostapd.conf',
    );
    await machine.shell('wpa_cli -i eth0 logoff && wpa_cli -i eth0 logon || true');
    for (const end = Date.now() + 10_000; Date.now() < end; await sleep(50)) {
      const state = await supplicantState(machine);
      if (state === 'AUTHENTICATED' || state === 'HELD') return state === 'AUTHENTICATED';
    }
    return false;
  },
};

/** The state of the port's access entity, IEEE 802.1X-2004, 8.2.11. */
async function supplicantState(machine: Machine): Promise<string | undefined> {
  const { stdout } = await machine.run(['wpa_cli', '-i', 'eth0', 'status'], { check: false });
  return /^Supplicant PAE state=(.*)$/m.exec(stdout)?.[1];
}

/** How many networks wpa_supplicant reads from the WiFi configuration, up to where it would need a radio. */
export async function wifiNetworks(machine: Machine): Promise<string> {
  const start = 'wpa_supplicant -B -P /run/wifi.pid -Dnone -i wlan0 -c $CREDENTIALS_DIRECTORY/wpa_supplicant.conf';
  await machine.run(['auxcred', 'run', '--file=wpa_supplicant.conf=wifi-conf', '--', 'sh', '-c', start]);
  return (await machine.shell('wpa_cli -i wlan0 list_networks; kill "$(cat /run/wifi.pid)"')).stdout;
}
