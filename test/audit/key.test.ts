import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { describe, test } from 'node:test';
import { auditKeys, keyText, parseKeys } from '../../src/audit/key.ts';
import { Failure } from '../../src/failure.ts';
import { privateKey, signer } from './journal.ts';

const keys = auditKeys([createPublicKey(privateKey)], []);

describe('the public keys of a chain', () => {
  test('are read as they are printed', () => {
    const read = parseKeys(`# web1\n\n${keyText(keys)}`, 'keys');
    assert.deepEqual([...read.chain.keys()], [signer.keyId]);
  });

  test('anything else is refused with its line', () => {
    const refused = (text: string, message: RegExp): void => {
      assert.throws(
        () => parseKeys(text, 'keys'),
        (error) => error instanceof Failure && error.code === 'malformed' && message.test(error.message),
      );
    };
    refused('', /keys holds no public key/);
    refused(`${keyText(keys)}auxcred-audit AAAA\n`, /keys, line 2,/);
    refused(keyText(keys).replace('auxcred-audit', 'auxcred-audit-tpm'), /line 1/);
    refused(`${keyText(keys).trim()} more\n`, /line 1/);
  });
});
