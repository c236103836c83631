/** What `auxcred get` writes to a terminal, and what only to others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exitStatus } from '../../src/failure.ts';
import { ended, start } from '../terminal/on-terminal.ts';
import { at, auxcred, declare, useMachineRoot, works } from './machine-root.ts';

useMachineRoot();

const declared = (name: string, kind: string, more = ''): string =>
  `[secret.${name}]\nkind = "${kind}"\nunits = ["web.service"]\n${more}`;

test('a terminal gets text, and nothing that it would act on', async () => {
  const content = String.raw`content = "\u001b]0;owned\u0007"`;
  declare(declared('pem', 'ssh-ed25519') + declared('raw', 'bytes') + declared('escape', 'template', content));
  works('seal', ['--no-recovery']);
  works('apply');
  const key = start(true, ['get', 'pem', `--root=${at('')}`]);
  await ended(key);
  assert.match(key.said(), /-----END OPENSSH PRIVATE KEY-----/);
  for (const name of ['raw', 'escape']) {
    const refused = start(true, ['get', name, `--root=${at('')}`]);
    await ended(refused, exitStatus.usage);
    assert.match(refused.said(), new RegExp(`^auxcred: ${name} is not text, and the terminal would act on its bytes`));
    assert.doesNotMatch(refused.said(), /[^\r\n -~]/);
  }
  assert.equal(auxcred('get', ['escape']).stdout, '\u001b]0;owned\u0007');
});
