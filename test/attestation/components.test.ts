/** Nothing that was started may pass for a marker of the firmware. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { componentsOf } from '../../src/attestation/components.ts';
import { provenAuthorities } from '../../src/attestation/secure-boot.ts';
import { utf8 } from '../../src/bytes.ts';
import { digestIn } from '../../src/measured/bank.ts';
import { type MeasuredEvent, measuredBy } from '../../src/measured/event.ts';
import { hex, logOf } from '../measured/samples.ts';

const types = { separator: 0x00000004, action: 0x80000007, ipl: 0x0000000d, application: 0x80000003 };
const { events } = logOf('c-secure-boot-uki2');

const event = (pcr: number, type: keyof typeof types, data: Uint8Array): MeasuredEvent =>
  measuredBy({ pcr, type: types[type], digests: new Map([['sha256', digestIn('sha256', data)]]), data });
const program = utf8('MZ, and all else of a program that the firmware takes the digest of');

describe('the components of a PCR', () => {
  test('are the programs of a real boot', () => {
    const images = events.filter(({ pcr, meaning }) => pcr === 4 && meaning.kind === 'image');
    assert.deepEqual(
      componentsOf({ events }, 4),
      images.map(({ digests }) => hex(digests.get('sha256'))),
    );
  });

  test('have each program among them, whatever the log calls it', () => {
    const digest = hex(digestIn('sha256', program));
    for (const type of ['separator', 'action', 'ipl', 'application'] as const) {
      const found = componentsOf({ events: [...events, event(4, type, program)] }, 4);
      assert.ok(typeof found !== 'string' && found.includes(digest), type);
    }
  });

  test('have a file among them that begins like a text of the firmware', () => {
    const file = utf8('Exit Boot Services Invocation\0and what GRUB read');
    for (const pcr of [5, 9])
      assert.ok(
        componentsOf({ events: [...events, event(pcr, 'action', file)] }, pcr).includes(hex(digestIn('sha256', file))),
      );
    const zeros = new Uint8Array(4);
    assert.ok(componentsOf({ events: [event(9, 'separator', zeros)] }, 9).includes(hex(digestIn('sha256', zeros))));
  });

  test('are not known without the separator of a firmware that measured', () => {
    assert.match(String(componentsOf({ events: [] }, 4)), /the firmware did not measure what it started/);
    assert.deepEqual(componentsOf({ events: [] }, 12), []);
  });
});

test('PCR 7 has no separator but that of the specification', () => {
  const changed = events.map((one) =>
    one.pcr === 7 && one.meaning.kind === 'separator' ? event(7, 'separator', program) : one,
  );
  assert.equal(provenAuthorities({ events: changed }), 'PCR 7 has an event that does not belong there');
});
