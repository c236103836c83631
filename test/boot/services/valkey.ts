import type { Service } from './service.ts';

export const valkey: Service = {
  name: 'valkey',
  units: ['valkey-server.service'],
  secret: 'valkey',
  async accepts(machine, value) {
    const { stdout } = await machine.run(['env', `REDISCLI_AUTH=${value}`, 'valkey-cli', 'ping'], { check: false });
    return stdout === 'PONG\n';
  },
};
