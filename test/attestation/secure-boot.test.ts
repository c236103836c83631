/** PCR 7 proves what Secure Boot accepted only if nobody can call an event something else. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { describe, test } from 'node:test';
import { provenAuthorities } from '../../src/attestation/secure-boot.ts';
import { digestIn } from '../../src/measured/bank.ts';
import { type MeasuredEvent, measuredBy } from '../../src/measured/event.ts';
import { bytesOf, logOf, sampleFile } from '../measured/samples.ts';

const types = {
  action: 0x80000007,
  ipl: 0x0000000d,
  setting: 0x80000001,
  authority: 0x800000e0,
  separator: 0x00000004,
};
const sample = 'c-secure-boot-uki2';
const events = logOf(sample).events.filter(({ pcr }) => pcr === 7);
const off = logOf('a-boot1').events.filter(({ pcr }) => pcr === 7);

const event = (type: keyof typeof types, data: Uint8Array): MeasuredEvent =>
  measuredBy({ pcr: 7, type: types[type], digests: new Map([['sha256', digestIn('sha256', data)]]), data });
const problem = (changed: readonly MeasuredEvent[], wanted: RegExp): void => {
  const proven = provenAuthorities({ events: changed });
  assert.ok(typeof proven === 'string', JSON.stringify(proven));
  assert.match(proven, wanted);
};
const isAuthority = ({ meaning }: MeasuredEvent): boolean =>
  meaning.kind === 'variable' && meaning.role === 'authority';
const authority = events.find(isAuthority);
assert.ok(authority);

describe('PCR 7 of a boot', () => {
  test('proves Secure Boot and the certificate that accepted the boot loader', () => {
    const digest = new X509Certificate(bytesOf(sampleFile(sample, 'db.crt'))).fingerprint256.replaceAll(':', '');
    const proven = provenAuthorities({ events });
    assert.ok(typeof proven !== 'string', String(proven));
    assert.ok(proven.isOn);
    assert.deepEqual([...new Set(proven.authorities)], [digest.toLowerCase()]);
  });

  test('proves that Secure Boot was off', () => {
    const proven = provenAuthorities({ events: off });
    assert.ok(typeof proven !== 'string' && !proven.isOn, String(proven));
  });

  test('proves nothing if the data of an event is not what was measured', () => {
    const forged = { ...authority, data: authority.data.map((byte, i) => (i === 60 ? byte ^ 1 : byte)) };
    problem(
      events.map((one) => (one === authority ? forged : one)),
      /is not what was measured/,
    );
  });

  test('proves nothing if an event is called something else, whatever is measured after it', () => {
    for (const type of ['action', 'ipl', 'setting', 'separator'] as const)
      problem(
        events.map((one) => (one === authority ? event(type, authority.data) : one)),
        /does not belong there/,
      );
    // A boot without Secure Boot that says afterwards what it should have said before.
    const [first, ...rest] = off;
    assert.ok(first);
    for (const type of ['action', 'ipl', 'separator', 'authority'] as const)
      problem([event(type, first.data), ...rest, ...events], /does not belong there/);
    problem([...off, ...events], /does not belong there/);
    problem([first, ...events], /has the setting "SecureBoot" where it does not belong/);
  });

  test('proves nothing without its beginning, or its separator', () => {
    problem([], /does not say whether Secure Boot was on/);
    problem(events.slice(1), /does not belong there|does not say/);
    problem(events.slice(0, 5), /does not say/);
  });
});
