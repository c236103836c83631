/** The pages of docs/services about databases, caches, web servers and networks, on one machine. */
import { after, before, describe } from 'node:test';
import { auxcredMachine } from '../../auxcred-machine.ts';
import { cannotBoot, type Machine } from '../../machine/machine.ts';
import { postgresql } from './postgresql.ts';
import { describeService } from './service.ts';

describe('the cookbook', { skip: cannotBoot }, () => {
  let machine: Machine;
  before(async () => {
    machine = await auxcredMachine({ systemd: 'services', name: 'web1' });
    await machine.run(['auxcred', 'seal', '--no-recovery']);
    await machine.boot();
  });
  after(async () => {
    await machine?.destroy();
  });
  for (const service of [postgresql]) describeService(() => machine, service);
});
