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

/** A web server that asks for its token as a password. */
const start =
  'echo "/:app:$(cat $CREDENTIALS_DIRECTORY/app-token)" > /httpd.conf && exec httpd -f -p 8080 -c /httpd.conf';

/** The image `localhost/app:1`, and podman as it can run on a machine whose root is an overlay, without controllers. */
async function prepareContainers(machine: Machine): Promise<void> {
  await machine.write('/etc/containers/storage.conf', storage);
  await machine.write('/etc/containers/containers.conf', '[containers]\npids_limit = 0\n');
  await machine.shell(
    [
      'if podman image exists localhost/app:1; then exit; fi',
      'mkdir -p /run/image/bin',
      'cp /bin/busybox /run/image/bin/',
      'for name in sh cat httpd; do ln -s busybox /run/image/bin/$name; done',
      `tar -C /run/image -c . | podman import --quiet --change 'CMD ${JSON.stringify(['sh', '-c', start])}' - localhost/app:1`,
    ].join('\n'),
  );
}

export const quadlet: Service = {
  name: 'quadlet',
  units: [],
  secret: 'app-token',
  prepare: prepareContainers,
  accepts: async (machine, value) =>
    // The folder has no page: 404 is for who has logged in.
    (await httpStatus(machine, 'http://localhost:8080', `user = "app:${value}"`)) === 404,
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
