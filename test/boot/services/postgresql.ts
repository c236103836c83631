import type { Service } from './service.ts';

export const postgresql: Service = {
  name: 'postgresql',
  units: ['postgresql@17-main.service'],
  secret: 'web-db',
  async prepare(machine) {
    // Never in arguments, which the journal keeps with each line that a process writes.
    const password = '$$(sed "s,.*web:,,; s,@.*,," $$CREDENTIALS_DIRECTORY/web-db-url)';
    const logIn = `PGPASSWORD="${password}" psql --host=127.0.0.1 --username=web -qtAc "SELECT 1"`;
    await machine.write(
      '/etc/systemd/system/web.service',
      `[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '${logIn}'\n`,
    );
  },
  async accepts(machine, value) {
    const command = ['psql', `postgresql://web:${value}@127.0.0.1/web`, '-qtAc', 'SELECT current_user'];
    const { status, stdout } = await machine.run(command, { check: false });
    return status === 0 && stdout === 'web\n';
  },
};
