/** The TPM's statements over the audit chain, on a real TPM 2.0 in software, with openssl and tpm2-tools as judges. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { auditKeys } from '../../src/audit/key.ts';
import { Auditing } from '../../src/broker/auditing.ts';
import {
  attestedCount,
  attestedIndex,
  attestingKey,
  checkedStatement,
  countAndAttest,
  type Statement,
} from '../../src/tpm2/attested-counter.ts';
import { openTpm, type Tpm } from '../../src/tpm2/tpm.ts';
import { kindsOf, MemoryJournal, privateKey, release, signer, verify } from '../audit/journal.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';

const digest = (text: string): Uint8Array => createHash('sha256').update(text).digest();
const index = `0x${attestedIndex.toString(16)}`;

async function withTpmOf<T>({ device }: Swtpm, work: (tpm: Tpm) => Promise<T>): Promise<T> {
  const tpm = await openTpm(device);
  try {
    return await work(tpm);
  } finally {
    await tpm.close();
  }
}

describe('the attested counter', () => {
  let swtpm: Swtpm;
  let folder: string;

  const withTpm = async <T>(work: (tpm: Tpm) => Promise<T>): Promise<T> => await withTpmOf(swtpm, work);
  const attest = async (text: string): Promise<{ statement: Statement; key: KeyObject }> =>
    await withTpm(async (tpm) => await countAndAttest(tpm, digest(text)));

  before(async () => {
    swtpm = await startSwtpm();
    folder = mkdtempSync(join(tmpdir(), 'attested-'));
  });
  after(async () => {
    await swtpm.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('signs count and digest with a key that the TPM makes again, and openssl agrees', async () => {
    const [one, two] = [await attest('one'), await attest('two')];
    const key = await withTpm(attestingKey);
    assert.ok(key.equals(one.key) && key.equals(two.key));
    const [first, second] = [checkedStatement(one.statement, key), checkedStatement(two.statement, key)];
    assert.deepEqual(
      [first?.digest, second?.digest].map((bytes) => Buffer.from(bytes ?? [])),
      [digest('one'), digest('two')],
    );
    assert.equal((second?.count ?? 0) - (first?.count ?? 0), 1);
    assert.ok((second?.clock ?? 0) >= (first?.clock ?? 1));
    assert.equal(second?.resets, first?.resets);
    assert.equal(await withTpm(attestedCount), second?.count);
    assert.match(swtpm.tool('tpm2_nvreadpublic', index), /nt=0x1|counter/i);
    // TPMT_SIGNATURE in DER for openssl, as tpm2-tools write it with --format=plain.
    const half = (offset: number): Buffer => Buffer.from(one.statement.signature.subarray(offset, offset + 32));
    const integer = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([2, 33, 0]), bytes]);
    assert.equal(one.statement.signature.length, 4 + 2 * 34);
    const body = Buffer.concat([integer(half(6)), integer(half(40))]);
    const canonical = Buffer.concat([Buffer.from([0x30, body.length]), body]);
    writeFileSync(join(folder, 'key.pem'), key.export({ format: 'pem', type: 'spki' }));
    writeFileSync(join(folder, 'attest'), one.statement.attest);
    writeFileSync(join(folder, 'signature'), minimal(canonical));
    const judged = execFileSync(
      'openssl',
      [
        'dgst',
        '-sha256',
        '-verify',
        join(folder, 'key.pem'),
        '-signature',
        join(folder, 'signature'),
        join(folder, 'attest'),
      ],
      { encoding: 'utf8' },
    );
    assert.match(judged, /Verified OK/);
    swtpm.tool('tpm2_nvread', '-o', join(folder, 'value'), index);
    assert.equal(Number(readFileSync(join(folder, 'value')).readBigUInt64BE()), second?.count);
    assert.equal(readFileSync(join(folder, 'attest')).indexOf(digest('one')) > 0, true);
  });

  test('takes nothing else for a statement', async () => {
    const { statement, key } = await attest('three');
    const flipped = (bytes: Uint8Array, at: number): Uint8Array =>
      bytes.map((byte, i) => (i === at % bytes.length ? byte ^ 1 : byte));
    fc.assert(
      fc.property(fc.nat(), fc.boolean(), (at, ofSignature) => {
        const changed = ofSignature
          ? { ...statement, signature: flipped(statement.signature, at) }
          : { ...statement, attest: flipped(statement.attest, at) };
        assert.equal(checkedStatement(changed, key), undefined);
      }),
    );
    for (const bytes of [new Uint8Array(), statement.attest.subarray(0, 20)])
      assert.equal(checkedStatement({ attest: bytes, signature: statement.signature }, key), undefined);
  });

  test('goes on above after a power cut and after the index was removed, and the clock does not go back', async () => {
    const key = await withTpm(attestingKey);
    const count = async (text: string) => checkedStatement((await attest(text)).statement, key);
    const before = await count('before');
    await swtpm.powerCut();
    const cut = await count('after the cut');
    assert.ok(cut && before && cut.count > before.count && cut.count % 256 === 0, String(cut?.count));
    assert.equal((cut.resets - before.resets) | 0, 1);
    swtpm.tool('tpm2_nvundefine', '-C', 'o', index);
    const again = await count('defined again');
    assert.ok(again && again.count > cut.count);
  });

  test('another TPM, and this one after a clear, has another key', async () => {
    const key = await withTpm(attestingKey);
    const { statement } = await attest('before the clear');
    assert.ok(checkedStatement(statement, key));
    swtpm.tool('tpm2_clear', '-c', 'p');
    const later = await withTpm(attestingKey);
    assert.ok(!later.equals(key));
    assert.equal(checkedStatement((await attest('after')).statement, key), undefined);
  });
});

/** DER without the zero before an integer whose first bit is not set. */
function minimal(der: Buffer): Buffer {
  const integers: Buffer[] = [];
  for (const offset of [2, 37]) {
    let value = der.subarray(offset + 2, offset + 35);
    while (value.length > 1 && value[0] === 0 && ((value[1] ?? 0) & 0x80) === 0) value = value.subarray(1);
    integers.push(Buffer.concat([Buffer.from([2, value.length]), value]));
  }
  const body = Buffer.concat(integers);
  return Buffer.concat([Buffer.from([0x30, body.length]), body]);
}

describe('an audit chain with a TPM', () => {
  let swtpm: Swtpm;
  let journal: MemoryJournal;
  let tpmKey: KeyObject;

  const withTpm = async <T>(work: (tpm: Tpm) => Promise<T>): Promise<T> => await withTpmOf(swtpm, work);
  /** A run with two quiet moments, in which the TPM is asked. */
  const run = async (name: string): Promise<void> => {
    await journal.run(async (chain) => {
      const auditing = new Auditing(chain, { signer: () => signer, tpm: { device: swtpm.device } });
      for (const part of ['a', 'b']) {
        auditing.record(release(`${name}-${part}`));
        await auditing.vouchNow();
      }
      assert.equal(await auditing.finish(), true);
    });
  };

  before(async () => {
    swtpm = await startSwtpm();
    journal = new MemoryJournal();
    for (const name of ['one', 'two', 'three']) await run(name);
    tpmKey = await withTpm(attestingKey);
  });
  after(async () => {
    journal.remove();
    await swtpm.stop();
  });

  const keys = () => auditKeys([createPublicKey(privateKey)], [tpmKey]);
  const count = async (): Promise<number | undefined> => await withTpm(attestedCount);

  test('is intact, with two statements in each run', async () => {
    const verdict = verify(journal.entries, keys(), { state: journal.state, count: await count() });
    assert.deepEqual([verdict.findings, verdict.limits], [[], []]);
    assert.deepEqual([verdict.attested, verdict.vouched], [6, journal.entries.length]);
  });

  test('somebody who cut the end off and put the state back is found by the counter', async () => {
    const end = journal.entries.findIndex((entry) => entry['AUXCRED_CREDENTIAL'] === 'three-a') - 1;
    const cut = journal.entries.slice(0, end);
    assert.deepEqual(verify(cut, keys(), { state: undefined, count: undefined }).findings, []);
    const verdict = verify(cut, keys(), { state: undefined, count: await count() });
    assert.deepEqual(kindsOf(verdict), ['cut-off']);
    assert.match(verdict.findings[0]?.text ?? '', /2 anchors that the TPM counted are missing at the end/);
  });

  test('somebody who has the seed and writes another past is found, since the TPM states nothing for the past', async () => {
    const forged = new MemoryJournal();
    try {
      const original = journal;
      journal = forged;
      await run('one');
      await run('other');
      await run('three');
      journal = original;
      // On a journal of its own it fits, but the counter tells that there was more.
      const verdict = verify(forged.entries, keys(), { state: forged.state, count: await count() });
      assert.deepEqual(verdict.findings, []);
      const begin = original.entries.findIndex((entry) => entry['AUXCRED_CREDENTIAL'] === 'two-a') - 1;
      const spliced = original.entries
        .map((entry, i) => (i < begin ? entry : undefined))
        .filter((entry) => entry !== undefined);
      const moved = verify([...spliced, ...forged.entries], keys());
      assert.ok(kindsOf(moved).includes('tpm'), kindsOf(moved).join());
      assert.match(
        moved.findings.map(({ text }) => text).join('\n'),
        /4 anchors that the TPM counted are missing before/,
      );
    } finally {
      forged.remove();
    }
  });

  test('after the state was lost, only that is reported, and nothing about the statements', async () => {
    const original = journal;
    journal = new MemoryJournal();
    try {
      for (const name of ['one', 'two', 'three']) await run(name);
      rmSync(journal.statePath);
      await run('four');
      const verdict = verify(journal.entries, keys(), { state: journal.state, count: await count() });
      assert.deepEqual(kindsOf(verdict), ['begun-again'], verdict.findings.map(({ text }) => text).join('\n'));
      assert.equal(verdict.attested, 8);
    } finally {
      journal.remove();
      journal = original;
    }
  });

  test('a statement that was moved to another record is found', () => {
    const entries = journal.entries.map((entry) => ({ ...entry }));
    const anchors = entries.filter((entry) => entry['AUXCRED_TPM_ATTEST'] !== undefined);
    const [one, other] = anchors;
    assert.ok(one && other);
    for (const name of ['AUXCRED_TPM_ATTEST', 'AUXCRED_TPM_SIGNATURE']) one[name] = other[name] ?? '';
    assert.ok(kindsOf(verify(entries, keys())).includes('tpm'));
  });

  test('without the key of the TPM, its statements are said to be unknown', () => {
    const verdict = verify(journal.entries, auditKeys([createPublicKey(privateKey)], []));
    assert.deepEqual(verdict.findings, []);
    assert.match(verdict.limits.join(), /statements of a TPM were not checked, .*: 6/);
  });

  test('a TPM that hangs keeps neither the signature nor the end of the broker', async () => {
    const hung = new MemoryJournal();
    try {
      await hung.run(async (chain) => {
        swtpm.signal('SIGSTOP');
        const auditing = new Auditing(chain, { signer: () => signer, tpm: { device: swtpm.device } }, 100);
        auditing.record(release('one'));
        const asked = auditing.vouchNow();
        try {
          assert.equal(await auditing.finish(), false);
          assert.deepEqual(verify(hung.entries, keys()).findings, []);
          assert.equal(hung.entries.at(-1)?.['AUXCRED_OUTCOME'], 'anchored');
        } finally {
          swtpm.signal('SIGCONT');
          await asked;
        }
      });
    } finally {
      hung.remove();
    }
  });
});
