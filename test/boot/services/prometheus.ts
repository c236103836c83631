import { httpStatus } from './http.ts';
import type { Service } from './service.ts';

export const prometheus: Service = {
  name: 'prometheus',
  units: ['prometheus.service'],
  secret: 'prometheus',
  async accepts(machine, value) {
    const user = `user = "admin:${value}"`;
    if ((await httpStatus(machine, 'http://localhost:9090/-/ready', user)) !== 200) return false;
    const { stdout } = await machine.run(['curl', '-s', '--config', '-', 'http://localhost:9090/api/v1/targets'], {
      input: user,
    });
    return stdout.includes('"health":"up"');
  },
};
