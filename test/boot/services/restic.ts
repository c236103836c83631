import type { Service } from './service.ts';

export const restic: Service = {
  name: 'restic',
  units: [],
  secret: 'restic',
  keepsOld: true,
  async prepare(machine) {
    await machine.write('/srv/page.html', 'to be backed up\n');
  },
  async accepts(machine, value) {
    const command = ['restic', '--repo=/var/backups/restic', '--password-file=/dev/stdin', 'dump', 'latest'];
    const { status, stdout } = await machine.run([...command, '/srv/page.html'], { check: false, input: value });
    return status === 0 && stdout === 'to be backed up\n';
  },
};
