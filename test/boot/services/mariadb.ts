import type { Service } from './service.ts';

export const mariadb: Service = {
  name: 'mariadb',
  units: ['mariadb.service'],
  secret: 'shop-db',
  async prepare(machine) {
    await machine.write(
      '/etc/systemd/system/shop.service',
      '[Service]\nType=oneshot\nRemainAfterExit=yes\n' +
        'ExecStart=mariadb --defaults-extra-file=%d/shop-db.cnf --execute="SELECT 1" shop\n',
    );
  },
  async accepts(machine, value) {
    const command = ['mariadb', '--user=shop', `--password=${value}`, '--execute=SELECT CURRENT_USER()', '-BN', 'shop'];
    const { status, stdout } = await machine.run(command, { check: false });
    return status === 0 && stdout === 'shop@localhost\n';
  },
};
