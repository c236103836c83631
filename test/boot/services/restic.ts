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
    // What a test writes comes through a socket, which no program can open by its path.
    const dump = 'cat | restic --repo=/var/backups/restic --password-file=/dev/stdin dump latest /srv/page.html';
    const { status, stdout } = await machine.shell(dump, { check: false, input: value });
    return status === 0 && stdout === 'to be backed up\n';
  },
};
