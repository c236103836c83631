import type { Machine } from '../../machine/machine.ts';
import type { Service } from './service.ts';

/** @returns the status of an HTTP request with basic authentication; 000 if nothing answers */
async function answer(machine: Machine, port: number, passphrase: string): Promise<string> {
  const args = ['--silent', '--output', '/dev/null', '--write-out', '%{http_code}', '--user', `admin:${passphrase}`];
  return (await machine.run(['curl', ...args, `http://127.0.0.1:${port}/`], { check: false })).stdout;
}

export const nginx: Service = {
  name: 'nginx',
  units: ['nginx.service'],
  secret: 'site-admin',
  accepts: async (machine, value) => (await answer(machine, 8081, value)) === '200',
};

/** The page of the package, on port 80, is nginx' here. */
export const caddy: Service = {
  name: 'caddy',
  units: ['caddy.service'],
  secret: 'intranet-admin',
  prepare: async (machine) => void (await machine.shell("sed -i 's/^:80 {/:8080 {/' /etc/caddy/Caddyfile")),
  accepts: async (machine, value) => (await answer(machine, 8082, value)) === '200',
};
