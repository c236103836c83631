/** `auxcred audit` on journals that systemd-journal-remote wrote. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { auditKeys, keyText } from '../../src/audit/key.ts';
import { refusalRecord } from '../../src/broker/journal-record.ts';
import { type Fields, MemoryJournal, privateKey, release, signer } from '../audit/journal.ts';
import { fails, works } from '../cli.ts';

let folder: string;
const file = (name: string): string => join(folder, `${name}.journal`);

/** Entries in systemd's export format (systemd docs/JOURNAL_EXPORT_FORMATS.md), with what journald adds. */
const exported = (entries: readonly Fields[], trusted: Fields): Buffer =>
  Buffer.concat(
    entries.flatMap((entry, i) => [
      ...Object.entries({
        __CURSOR: `c${String(i)}`,
        __MONOTONIC_TIMESTAMP: String(1000 + i),
        _BOOT_ID: 'b0'.repeat(16),
        _TRANSPORT: 'journal',
        ...trusted,
        ...entry,
      })
        .sort(([one], [other]) => Number(other.startsWith('__')) - Number(one.startsWith('__')))
        .map(([name, value]) => {
          const bytes = Buffer.from(value);
          const length = Buffer.alloc(8);
          length.writeBigUInt64LE(BigInt(bytes.length));
          return value.includes('\n')
            ? Buffer.concat([Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n')])
            : Buffer.from(`${name}=${value}\n`);
        }),
      Buffer.from('\n'),
    ]),
  );

function put(name: string, content: Buffer): void {
  rmSync(file(name), { force: true });
  execFileSync('/lib/systemd/systemd-journal-remote', ['-o', file(name), '-'], {
    input: content,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
}

const broker = { _SYSTEMD_UNIT: 'auxcred.service', _UID: '999' };

describe('auxcred audit', () => {
  let journal: MemoryJournal;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'audit-command-'));
    journal = new MemoryJournal();
    const long = `${'a-very-long-name-of-a-unit-'.repeat(4)}x.service`;
    await journal.run((chain) => {
      chain.record({ ...release('key'), AUXCRED_PERIOD: '2026-11', AUXCRED_GENERATION: '2' });
      chain.record({ ...release('tls'), AUXCRED_UNIT: 'web@one.service' });
      chain.record({ ...release('long'), AUXCRED_UNIT: long, AUXCRED_CREDENTIAL: 'c'.repeat(60) });
      chain.record(
        refusalRecord(
          { unit: 'evil.service', credential: 'k\u001b[31m\ney' },
          `no credential is provisioned\n${'word '.repeat(30)}`,
        ),
      );
      chain.anchor(signer);
    });
    const others = exported([{ ...release('forged'), __REALTIME_TIMESTAMP: '1790000000999999' }], {
      _SYSTEMD_UNIT: 'evil.service',
      _UID: '1000',
    });
    const files = exported(
      [{ ...release('file'), AUXCRED_DELIVERY: 'file', AUXCRED_UNIT: '', __REALTIME_TIMESTAMP: '1790000001999999' }],
      { _SYSTEMD_UNIT: 'auxcred-files.service', _UID: '0' },
    );
    put('whole', Buffer.concat([exported(journal.entries, broker), others, files]));
    writeFileSync(join(folder, 'keys'), keyText(auditKeys([createPublicKey(privateKey)], [])));
  });
  after(() => {
    journal.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  const rows = (...args: string[]): { unit: string; secret: string; outcome: string }[] =>
    JSON.parse(works(['audit', '--json', `--file=${file('whole')}`, ...args]).stdout);
  const secrets = (...args: string[]): string[] => rows(...args).map(({ secret }) => secret);

  test('shows who got what in 100 columns, and nothing that somebody else wrote', () => {
    const { stdout } = works(['audit', `--file=${file('whole')}`]);
    const lines = stdout.trimEnd().split('\n');
    assert.match(lines[0] ?? '', /^WHEN {17}UNIT {24}CREDENTIAL {10}SECRET$/);
    assert.match(stdout, /web\.service +key +host\/web1 hex key 2026-11 #2$/m);
    assert.match(stdout, /^.{19} {2}a-very-long-name-of-a-uni… {2}c{17}… {2}host\/web1 hex long$/m);
    assert.match(stdout, /evil\.service +k \[31m ey +refused\n {21}no credential is provisioned word word/);
    assert.match(stdout, /anyone who may read it +file +host\/web1 hex file$/m);
    assert.ok(!stdout.includes('forged') && !stdout.includes('\u001b'));
    for (const line of lines) assert.ok([...line].length <= 100, line);
  });

  test('selects by unit, secret, outcome and number', () => {
    assert.deepEqual(secrets(), ['key', 'tls', 'long', '', 'file']);
    assert.deepEqual(secrets('--unit=web'), ['key']);
    assert.deepEqual(secrets('--unit=web@'), ['tls']);
    assert.deepEqual(secrets('--secret=tls'), ['tls']);
    assert.deepEqual(
      rows('--refused').map(({ outcome }) => outcome),
      ['refused'],
    );
    assert.deepEqual(secrets('-n', '2'), ['', 'file']);
    assert.deepEqual(secrets('--since=2100-01-01'), []);
  });

  test('prints JSON that is indented as everywhere, and an empty list if nothing is selected', () => {
    const json = (...args: string[]): string => works(['audit', '--json', `--file=${file('whole')}`, ...args]).stdout;
    for (const args of [[], ['-n', '1'], ['--unit=nobody']]) {
      const text = json(...args);
      assert.equal(text, `${JSON.stringify(JSON.parse(text), undefined, 2)}\n`);
    }
    assert.equal(json('--unit=nobody'), '[]\n');
  });

  test('verifies with public keys alone, and says what it does not know', () => {
    const { stdout } = works(['audit', '--verify', `--file=${file('whole')}`, `--public-key=${join(folder, 'keys')}`]);
    assert.match(stdout, /^intact {3}6 records of 1 run of the broker; signatures vouch for 6$/m);
    assert.match(stdout, /^unknown {2}records that were cut off/m);
  });

  test('names the record that was altered, with status 22', () => {
    put(
      'altered',
      exported(
        journal.entries.map((entry) =>
          entry['AUXCRED_CREDENTIAL'] === 'tls' ? { ...entry, AUXCRED_UNIT: 'web@two.service' } : entry,
        ),
        broker,
      ),
    );
    const { stdout } = fails(
      ['audit', '--verify', `--file=${file('altered')}`, `--public-key=${join(folder, 'keys')}`],
      'unwell',
      /^$/,
    );
    assert.match(stdout, /^wrong {4}record 2 of run [0-9a-f]{8}, its hash, or the hash before it was altered$/m);
  });

  test('refuses what it can not do', () => {
    const whole = `--file=${file('whole')}`;
    fails(['audit', '--verify', whole], 'usage', /exported journal needs --public-key=FILE/);
    fails(['audit', '--verify', '--unit=web', whole], 'usage', /--verify checks all records, so it takes no --unit/);
    fails(['audit', whole, '--directory=/tmp'], 'usage', /only one of/);
    fails(['audit', '-n', 'many', whole], 'usage', /-n takes a number of records/);
    fails(['audit', '--file=/nowhere/at.journal'], 'not-found', /does not exist/);
    fails(['audit', whole, '--since=whenever'], 'system', /journalctl failed: .*whenever/);
    put('empty', exported([{ MESSAGE: 'x', __REALTIME_TIMESTAMP: '1790000000999999' }], broker));
    fails(
      ['audit', '--verify', `--file=${file('empty')}`, `--public-key=${join(folder, 'keys')}`],
      'not-found',
      /no record of an audit chain/,
    );
  });
});
