/** Secrets per second of each kind, against a single HKDF by OpenSSL, which is the least that any of them needs. */
import { hkdfSync } from 'node:crypto';
import type { KindOptions } from '../src/derive/kind.ts';
import { deriveSecret } from '../src/derive/secret.ts';
import { report } from './report.ts';

const alnum = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const kinds: readonly KindOptions[] = [
  { kind: 'password', length: 32, alphabet: alnum, require: [] },
  { kind: 'passphrase', words: 6, separator: '-', capitalize: false },
  { kind: 'hex', bytes: 32 },
  { kind: 'base64', bytes: 32 },
  { kind: 'bytes', bytes: 32 },
  { kind: 'uuid' },
  { kind: 'wireguard-psk' },
  { kind: 'wireguard' },
  { kind: 'age' },
  { kind: 'ssh-ed25519', comment: 'a@b' },
  { kind: 'ed25519' },
  { kind: 'x25519' },
  { kind: 'ec-p256' },
];

/** How often `work` runs per second. */
function rateOf(work: (i: number) => void): number {
  for (let i = 0; i < 200; i++) work(i);
  const start = performance.now();
  let done = 0;
  while (performance.now() - start < 300) for (let i = 0; i < 20; i++) work(done++);
  return (done / (performance.now() - start)) * 1000;
}

export function benchKinds(): void {
  const seed = new Uint8Array(32).fill(7);
  const floor = rateOf((i) => hkdfSync('sha256', seed, 'auxcred/v1/leaf', String(i), 32));
  for (const options of kinds) {
    const each = rateOf((i) => deriveSecret(seed, { name: `secret-${String(i)}`, options, period: '', generation: 1 }));
    report({
      what: `derive, ${options.kind}`,
      measured: `auxcred ${each.toFixed(0)}/s`,
      against: `OpenSSL's HKDF ${floor.toFixed(0)}/s`,
      ratio: `${(floor / each).toFixed(1)} x`,
      goal: '',
    });
  }
}
