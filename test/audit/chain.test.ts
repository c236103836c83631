/** Whatever is done to a journal's records, a check of the chain finds it, or says that it can't. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { Chain } from '../../src/audit/chain.ts';
import { ChainState } from '../../src/audit/chain-state.ts';
import { auditKeys, privateKeyOf, signerWith } from '../../src/audit/key.ts';
import type { Position } from '../../src/audit/record.ts';
import { messageOf } from '../../src/failure.ts';
import { type Fields, kindsOf, MemoryJournal, privateKey, release, signer, verify } from './journal.ts';

const keys = auditKeys([createPublicKey(privateKey)], []);
const runLengths = [3, 5, 1, 4];

/** A journal of four runs, each with an anchor in its middle and, but for the last, one at its end. */
async function sample(): Promise<MemoryJournal> {
  const journal = new MemoryJournal();
  for (const [i, length] of runLengths.entries())
    await journal.run((chain) => {
      for (let n = 0; n < length; n++) {
        chain.record(release(`key-${String(i)}-${String(n)}`));
        if (n === 1) chain.anchor(signer);
      }
      if (i < runLengths.length - 1) chain.anchor(signer);
    });
  return journal;
}

describe('the audit chain', () => {
  let journal: MemoryJournal;
  let entries: readonly Fields[];
  /** Up to here a signature vouches for everything. */
  let vouched: number;

  before(async () => {
    journal = await sample();
    entries = journal.entries;
    vouched = entries.findLastIndex((entry) => entry['AUXCRED_OUTCOME'] === 'anchored');
  });
  after(() => {
    journal.remove();
  });

  const place = (from: number, to: number): fc.Arbitrary<number> => fc.integer({ min: from, max: to });
  const copied = (): Fields[] => entries.map((entry) => ({ ...entry }));
  const isFound = (changed: readonly Fields[], what: string): void => {
    assert.notDeepEqual(verify(changed, keys).findings, [], what);
  };

  test('is intact as it was written, and says which records nobody vouches for yet', () => {
    const verdict = verify(entries, keys, { state: journal.state, count: undefined });
    assert.deepEqual(verdict.findings, []);
    assert.equal(verdict.records, entries.length);
    assert.equal(verdict.runs, runLengths.length);
    assert.equal(verdict.vouched, vouched + 1);
    assert.equal(verdict.limits.length, 1);
    assert.match(verdict.limits[0] ?? '', /no signature vouches for records 4 to 5 of run [0-9a-f]{8}, the end/);
  });

  test('a record that was removed is found, but for those at either end', () => {
    fc.assert(
      fc.property(place(1, entries.length - 2), place(1, 4), (at, length) => {
        const end = Math.min(at + length, entries.length - 1);
        isFound([...entries.slice(0, at), ...entries.slice(end)], `${String(at)} to ${String(end)}`);
      }),
    );
  });

  test('what is cut off at the end is found by the state, and at the beginning it is said', () => {
    const present = { state: journal.state, count: undefined };
    fc.assert(
      fc.property(place(1, entries.length - 1), (end) => {
        assert.ok(kindsOf(verify(entries.slice(0, end), keys, present)).includes('cut-off'), String(end));
        const later = verify(entries.slice(end), keys, present);
        assert.deepEqual(later.findings, []);
        assert.match(later.limits[0] ?? '', /^what came before .* is not in this journal/);
      }),
    );
  });

  test('a field that was altered, added or removed is found', () => {
    const names = fc.constantFrom(
      'MESSAGE',
      'AUXCRED_UNIT',
      'AUXCRED_TIME',
      'AUXCRED_SEQUENCE',
      'AUXCRED_RUN',
      'AUXCRED_HASH',
      'AUXCRED_ADDED',
    );
    fc.assert(
      fc.property(place(0, vouched), names, fc.option(fc.string()), (at, name, value) => {
        const changed = copied();
        const entry = changed[at] ?? {};
        const before = entry[name];
        fc.pre((before ?? undefined) !== (value ?? undefined));
        if (value === null) delete entry[name];
        else entry[name] = value;
        isFound(changed, `${name} of ${String(at)}`);
      }),
    );
  });

  test('a record that was altered together with every hash after it is found by the signature', async () => {
    const other = new MemoryJournal();
    try {
      await other.run((chain) => {
        for (let n = 0; n < 3; n++) chain.record(release(`other-${String(n)}`));
        chain.anchor(signerWith(privateKeyOf(new Uint8Array(32).fill(7))));
      });
      assert.deepEqual(kindsOf(verify(other.entries, keys)), ['unknown-key']);
      // Somebody without the key can name it, but not sign.
      const forged = other.entries.map((entry) => ({ ...entry }));
      const last = forged.at(-1) ?? {};
      last['AUXCRED_KEY'] = signer.keyId;
      assert.deepEqual(new Set(kindsOf(verify(forged, keys))), new Set(['altered', 'bad-signature']));
    } finally {
      other.remove();
    }
  });

  test('two records that changed places are found', () => {
    fc.assert(
      fc.property(place(0, entries.length - 1), place(0, entries.length - 1), (one, other) => {
        const [a, b] = [entries[one], entries[other]];
        fc.pre(a?.['AUXCRED_RUN'] === b?.['AUXCRED_RUN'] && one !== other);
        const changed = copied();
        [changed[one], changed[other]] = [{ ...b }, { ...a }];
        isFound(changed, `${String(one)} and ${String(other)}`);
      }),
    );
  });

  test('records that changed their content are found in all runs', () => {
    fc.assert(
      fc.property(place(0, vouched), place(0, vouched), (one, other) => {
        fc.pre(one !== other);
        const changed = copied();
        for (const name of ['MESSAGE', 'AUXCRED_CREDENTIAL', 'AUXCRED_TIME', 'AUXCRED_OUTCOME']) {
          const value = entries[other]?.[name];
          const entry = changed[one] ?? {};
          if (value === undefined) delete entry[name];
          else entry[name] = value;
        }
        fc.pre(JSON.stringify(changed[one]) !== JSON.stringify(entries[one]));
        isFound(changed, `${String(other)} at ${String(one)}`);
      }),
    );
  });

  test('a copy of a record is found, wherever it is put', () => {
    fc.assert(
      fc.property(place(0, entries.length - 1), place(0, entries.length), (at, to) => {
        const copy = { ...entries[at] };
        const found = kindsOf(verify([...entries.slice(0, to), copy, ...entries.slice(to)], keys));
        assert.ok(found.includes('duplicated'), `${String(at)} at ${String(to)}: ${found.join()}`);
      }),
    );
  });

  test('a record beside the chain, and one stripped of its place, are found', () => {
    const madeUp = { ...release('made-up'), __REALTIME_TIMESTAMP: '1790000000000000' };
    assert.deepEqual(kindsOf(verify([...entries.slice(0, 3), madeUp, ...entries.slice(3)], keys)), ['unchained']);
    const earlier = verify([madeUp, ...entries], keys);
    assert.deepEqual(earlier.findings, []);
    assert.match(earlier.limits.join('\n'), /^nothing vouches for records from before the chain: 1$/m);
  });

  test('a run that somebody without the key made up is found', async () => {
    const other = new MemoryJournal();
    try {
      await other.run((chain) => {
        chain.record(release('made-up'));
      });
      const found = kindsOf(verify([...entries.slice(0, 7), ...other.entries, ...entries.slice(7)], keys));
      assert.deepEqual(new Set(found), new Set(['begun-again', 'not-signed']));
    } finally {
      other.remove();
    }
  });

  test('a field that stands there twice, and bytes that are no text, are seen as they are', async () => {
    const other = new MemoryJournal();
    try {
      await other.run((chain) => {
        chain.record({ ...release('key'), AUXCRED_REASON: 'two\nlines \u001b[31m ü \ud83d\ude00' });
        chain.anchor(signer);
      });
      assert.deepEqual(verify(other.entries, keys).findings, []);
    } finally {
      other.remove();
    }
  });
});

/** What the broker keeps of the last of these records. */
function stateIn(entries: readonly Fields[]): Position {
  const last = entries.at(-1) ?? {};
  return {
    run: last['AUXCRED_RUN'] ?? '',
    sequence: Number(last['AUXCRED_SEQUENCE']),
    hash: Buffer.from(last['AUXCRED_HASH'] ?? '', 'hex'),
  };
}

describe('the chain across trouble', () => {
  let journal: MemoryJournal;

  const written = async (work: (journal: MemoryJournal) => Promise<void>): Promise<MemoryJournal> => {
    journal = new MemoryJournal();
    try {
      await work(journal);
    } finally {
      journal.remove();
    }
    return journal;
  };

  test('a broker that is killed before it signs is vouched for by the next one', async () => {
    const { entries } = await written(async (target) => {
      await target.run((chain) => {
        chain.record(release('one'));
      });
      await target.run((chain) => {
        chain.record(release('two'));
        chain.anchor(signer);
      });
    });
    const verdict = verify(entries, keys);
    assert.deepEqual([verdict.findings, verdict.limits, verdict.vouched], [[], [], entries.length]);
  });

  /** Three runs that follow each other, and a fourth that nobody vouches for yet. */
  const fourRuns = async (): Promise<MemoryJournal> =>
    await written(async (target) => {
      for (const isSigned of [true, true, true, false])
        await target.run((chain) => {
          chain.record(release('key'));
          if (isSigned) chain.anchor(signer);
        });
    });
  const lengths = [3, 3, 3, 2];
  /** The entries with the runs in another order, as a journal lists them after the clock was set back at a boot. */
  const listed = (entries: readonly Fields[], order: readonly number[]): Fields[] =>
    order.flatMap((i) => {
      const begin = lengths.slice(0, i).reduce((sum, length) => sum + length, 0);
      return entries.slice(begin, begin + (lengths[i] ?? 0));
    });

  test('a clock that was set back between boots makes nothing wrong, wherever the runs are listed', async () => {
    const { entries } = await fourRuns();
    const { findings, limits } = verify(entries, keys);
    assert.deepEqual([findings, limits.length], [[], 1]);
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }), (order) => {
        const verdict = verify(listed(entries, order), keys);
        assert.deepEqual([verdict.findings, verdict.limits], [[], limits], String(order));
      }),
    );
  });

  test('after that, what journald dropped by age is still told from what was removed', async () => {
    const { entries } = await fourRuns();
    const dropped = verify(listed(entries, [2, 3, 1]), keys);
    assert.deepEqual(dropped.findings, []);
    assert.match(dropped.limits.join('\n'), /^what came before the start of run [0-9a-f]{8} is not in this journal$/m);
    for (const [order, kind] of [
      [[0, 2, 3], 'missing'],
      [[3, 0, 2], 'missing'],
      [[2, 3, 0], 'begun-again'],
    ] as const)
      assert.ok(kindsOf(verify(listed(entries, order), keys)).includes(kind), String(order));
  });

  test('a part of the journal from some time on may lack the last record, and says so', async () => {
    const { entries } = await written(async (target) => {
      await target.run((chain) => {
        for (const name of ['one', 'two', 'three']) chain.record(release(name));
        chain.anchor(signer);
      });
    });
    const part = { state: stateIn(entries), count: undefined, isPart: true };
    const quiet = verify([], keys, part);
    assert.deepEqual(quiet.findings, []);
    assert.match(
      quiet.limits.join(),
      /the last record that the broker wrote, 4 of run [0-9a-f]{8}, is not in this part/,
    );
    assert.deepEqual(verify(entries.slice(3), keys, part).findings, []);
    // It begins before the end, so the end would be in it.
    assert.deepEqual(kindsOf(verify(entries.slice(2, 4), keys, part)), ['cut-off']);
    assert.deepEqual(kindsOf(verify([], keys, { ...part, isPart: false })), ['cut-off']);
  });

  test('records that the journal does not take are counted, and nothing seems to be missing', async () => {
    const { entries } = await written(async (target) => {
      await target.run((chain) => {
        chain.record(release('one'));
        target.isOpen = false;
        chain.record(release('lost'));
        chain.record(release('lost too'));
        target.isOpen = true;
        chain.record(release('two'));
        chain.anchor(signer);
      });
    });
    const verdict = verify(entries, keys);
    assert.deepEqual(verdict.findings, []);
    assert.match(verdict.limits.join(), /journald did not accept 2 of the records/);
  });

  test('a state that was lost, and one that was put back, are said', async () => {
    const { writeFileSync, readFileSync, rmSync } = await import('node:fs');
    const one = async (target: MemoryJournal, name: string): Promise<void> => {
      await target.run((chain) => {
        chain.record(release(name));
        chain.anchor(signer);
      });
    };
    const lost = await written(async (target) => {
      await one(target, 'one');
      rmSync(target.statePath);
      await one(target, 'two');
    });
    assert.deepEqual(kindsOf(verify(lost.entries, keys)), ['begun-again']);
    const back = await written(async (target) => {
      await one(target, 'one');
      const old = readFileSync(target.statePath);
      await one(target, 'two');
      writeFileSync(target.statePath, old);
      await one(target, 'three');
    });
    assert.deepEqual(verify(back.entries, keys).findings, []);
  });

  test('a state that the disk does not take stops nothing, and is said once', async () => {
    const said: string[] = [];
    let records = 0;
    const complain = (error: unknown): number => said.push(messageOf(error));
    assert.equal(ChainState.open('/nowhere/chain', complain), undefined);
    const state = ChainState.open('/dev/full', complain);
    const chain = new Chain(state, () => ++records > 0);
    for (const name of ['one', 'two']) chain.record(release(name));
    state?.close();
    assert.equal(records, 3);
    assert.deepEqual(
      said.map((text) => text.split(':')[0]),
      ['ENOENT', 'ENOSPC'],
    );
  });

  test('a long journal needs little memory', () => {
    const module = (path: string): string => JSON.stringify(resolve(`build/src/${path}.js`));
    const code = `
      const { ListedRecords } = await import(${module('audit/entry')});
      const { parseEntry } = await import(${module('system/journal-entries')});
      const records = new ListedRecords();
      const more = Object.fromEntries(Array.from({ length: 30 }, (_, i) => ['_FIELD_OF_JOURNALD_' + i, 'x'.repeat(30)]));
      for (let i = 0; i < 30_000; i++)
        records.add(parseEntry(JSON.stringify({
          ...more, MESSAGE: 'released key to web.service', AUXCRED_OUTCOME: 'released', AUXCRED_UNIT: 'web.service',
          AUXCRED_RUN: '0'.repeat(32), AUXCRED_SEQUENCE: String(i), AUXCRED_HASH: '0'.repeat(64),
        })));
      console.log(records.chained.length);`;
    const heap = '--max-old-space-size=48';
    const { stdout, signal } = spawnSync(process.execPath, [heap, '--input-type=module', '-e', code], {
      encoding: 'utf8',
    });
    assert.deepEqual([stdout, signal], ['30000\n', null]);
  });

  test('thousands of runs are no trouble', async () => {
    const { entries } = await written(async (target) => {
      for (let i = 0; i < 3000; i++)
        await target.run((chain) => {
          chain.record(release('key'));
          if (i % 50 === 49) chain.anchor(signer);
        });
    });
    const verdict = verify(entries, keys);
    assert.deepEqual([verdict.findings, verdict.runs, verdict.vouched], [[], 3000, entries.length]);
  });
});
