/**
 * Measures the named subjects, or all. Each line is printed as soon as it is known; dist/bench.json has all of them.
 */
import { writeFileSync } from 'node:fs';
import { benchDelivery } from './delivery.ts';
import { documented, writeDocuments } from './documents.ts';
import { benchFixed } from './fixed.ts';
import { benchGenerator } from './generator.ts';
import { benchGet, benchGrowth } from './growth.ts';
import { benchKinds } from './kinds.ts';
import { benchPeers } from './peers.ts';
import { benchProfile } from './profile.ts';
import { benchProvision } from './provision.ts';
import { benchPush } from './push.ts';
import { begin, report, reported } from './report.ts';
import { benchStartUp } from './start-up.ts';
import { benchTpm } from './tpm.ts';

const subjects = new Map<string, () => void | Promise<void>>([
  ['kinds', benchKinds],
  ['fixed', benchFixed],
  ['get', benchGet],
  ['growth', benchGrowth],
  ['provision', benchProvision],
  ['generator', benchGenerator],
  ['push', benchPush],
  ['delivery', benchDelivery],
  ['profile', benchProfile],
  ['start-up', benchStartUp],
  ['peers', async () => await benchPeers({ thorough })],
  ['tpm', async () => await benchTpm({ thorough })],
]);

const given = process.argv.slice(2);
/** Measures what takes minutes too, and writes what the documentation shows. */
const thorough = given.includes('--write-docs');
const chosen = given.filter((name) => name !== '--write-docs');
const unknown = chosen.filter((name) => !subjects.has(name));
if (unknown.length > 0) {
  console.error(`there is no subject ${unknown.join(' or ')}; there are ${[...subjects.keys()].join(', ')}`);
  process.exit(2);
}
const lacking = documented.filter((name) => chosen.length > 0 && !chosen.includes(name));
if (thorough && lacking.length > 0) {
  console.error(`--write-docs also needs the subject ${lacking.join(' and ')}`);
  process.exit(2);
}
report({ what: 'what', measured: 'measured', against: 'against', ratio: 'ratio', goal: 'goal' });
for (const [name, measure] of subjects) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  begin(name);
  await measure();
}
writeFileSync('dist/bench.json', `${JSON.stringify(reported().slice(1), undefined, 2)}\n`);
if (thorough) writeDocuments();
