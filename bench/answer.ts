/**
 * Runs in the machine as the broker does, without a compiler, and prints what each part of an answer takes: lines of
 * milliseconds of processor time and the part.
 */
import { readFileSync } from 'node:fs';
import { Chain } from '../src/audit/chain.ts';
import { ChainState } from '../src/audit/chain-state.ts';
import { privateKeyOf, signerWith } from '../src/audit/key.ts';
import { mostUnsigned } from '../src/broker/auditing.ts';
import { releaseRecord } from '../src/broker/journal-record.ts';
import { ReleaseBook } from '../src/broker/release-book.ts';
import { openServedSecrets } from '../src/broker/served-secrets.ts';
import { openersOf } from '../src/machine/openers.ts';
import { hostScope } from '../src/seeds/scope.ts';
import { HostSecret, hostSecretChange, hostSecretFile } from '../src/system/host-credential.ts';
import { journal } from '../src/system/journal.ts';
import { pathsUnder } from '../src/system/paths.ts';

const rounds = 1_000;

/** Milliseconds that one call takes, after some that count for nothing. */
function processorTime(work: () => void): number {
  for (let i = 0; i < rounds / 10; i++) work();
  const before = process.cpuUsage();
  for (let i = 0; i < rounds; i++) work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / rounds;
}

async function main(): Promise<void> {
  const paths = pathsUnder('/');
  const opened = await openServedSecrets(paths, openersOf(paths, undefined));
  const secret = new HostSecret(readFileSync(hostSecretFile));
  const isStale = hostSecretChange();
  const book = new ReleaseBook(opened.releases, opened.sources);
  const request = { unit: 'socket-1.service', credential: 'key' };
  const release = book.find(request);
  const record = releaseRecord(request, release);
  const chain = new Chain(
    ChainState.open('/run/bench-chain', () => undefined),
    () => true,
  );
  const signer = signerWith(privateKeyOf(hostScope(opened.scopes).seed));
  const parts: Readonly<Record<string, () => void>> = {
    'looking for a newer snapshot or host secret': () => [opened.reread(), opened.isOutdated(release), isStale()],
    'deriving the secret': () => book.value(book.find(request)),
    encrypting: () => secret.encrypt('key', new Uint8Array(64), 60_000),
    'journal record': () => journal(record),
    'audit record': () => {
      chain.record(record);
    },
  };
  for (const [part, work] of Object.entries(parts)) console.log(processorTime(work).toFixed(4), part);
  const signing = processorTime(() => {
    chain.anchor(signer);
  });
  console.log((signing / mostUnsigned).toFixed(4), `signature, one for ${String(mostUnsigned)} records`);
}

void main();
