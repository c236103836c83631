import type { Machine } from '../../machine/machine.ts';
import { httpStatus } from './http.ts';
import type { Service } from './service.ts';

/** crun limits devices by BPF, and keeps a keyring for each container. */
export const systemCallsOfContainers = ['bpf', 'add_key', 'keyctl'] as const;

const storage = `[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
`;

/** A web server's page that lets in who sends its token. */
const login = `#!/bin/sh
read -r given
[ "$given" = "$(cat "$CREDENTIALS_DIRECTORY/app-token")" ] || echo 'Status: 403 Forbidden'
echo
`;

/** The image `localhost/app:1`, and podman as it can run on a machine whose root is an overlay, without controllers. */
async function prepareContainers(machine: Machine): Promise<void> {
  await machine.write('/etc/containers/storage.conf', storage);
  await machine.write('/etc/containers/containers.conf', '[containers]\npids_limit = 0\n');
  await machine.write('/run/image/www/cgi-bin/login', login, 0o755);
  await machine.shell(
    [
      'if podman image exists localhost/app:1; then exit; fi',
      'mkdir -p /run/image/bin',
      'cp /bin/busybox /run/image/bin/',
      'for name in sh cat httpd; do ln -s busybox /run/image/bin/$name; done',
      "tar -C /run/image -c . | podman import --quiet --change 'STOPSIGNAL KILL' " +
        `--change 'CMD ["httpd","-f","-p","8080","-h","/www"]' - localhost/app:1`,
    ].join('\n'),
  );
}

export const quadlet: Service = {
  name: 'quadlet',
  units: [],
  secret: 'app-token',
  prepare: prepareContainers,
  accepts: async (machine, value) =>
    (await httpStatus(machine, 'http://localhost:8080/cgi-bin/login', `data = "${value}"`)) === 200,
};

export const registry: Service = {
  name: 'registry',
  units: ['docker-registry.service'],
  secret: 'registry',
  prepare: prepareContainers,
  async accepts(machine, value) {
    const command = ['podman', 'login', '--authfile=/run/login.json', '--tls-verify=false', '--username=web1'];
    const { status } = await machine.run([...command, '--password-stdin', 'localhost:5000'], {
      check: false,
      input: value,
    });
    return status === 0;
  },
};
