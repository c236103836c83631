import { httpStatus } from './http.ts';
import type { Service } from './service.ts';

export const nodeApp: Service = app('node', 8083);
export const pythonApp: Service = app('python', 8084);

function app(language: string, port: number): Service {
  return {
    name: `${language}-app`,
    units: [],
    secret: `${language}-token`,
    async accepts(machine, value) {
      const header = `header = "Authorization: Bearer ${value}"`;
      return (await httpStatus(machine, `http://localhost:${port}`, header)) === 200;
    },
  };
}
