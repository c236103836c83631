/** Credentials made without a TPM, with tpm2-tools and real endorsement keys as judges. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseAttest, qualifiedName } from '../../src/tpm2/attest.ts';
import { createAk, parseAkPublic, verifies } from '../../src/tpm2/attestation-key.ts';
import { makeCredential } from '../../src/tpm2/credential.ts';
import { ekKinds, findEk, parseEkPublic } from '../../src/tpm2/endorsement-key.ts';
import { activate, quote } from '../../src/tpm2/quote.ts';
import { TpmError } from '../../src/tpm2/response.ts';
import { createPrimary, nameOf, readPublic } from '../../src/tpm2/srk.ts';
import { esysHandles, openTpm, type Tpm } from '../../src/tpm2/tpm.ts';
import { contentOf, sized } from '../../src/tpm2/wire.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';

let swtpm: Swtpm;
const at = (name: string): string => join(swtpm.folder, name);
const bytesAt = (name: string): Uint8Array => new Uint8Array(readFileSync(at(name)));

async function within<T>(work: (tpm: Tpm) => Promise<T>): Promise<T> {
  const tpm = await openTpm(swtpm.device);
  try {
    return await work(tpm);
  } finally {
    await tpm.close();
  }
}

before(async () => {
  swtpm = await startSwtpm();
});
after(async () => {
  await swtpm.stop();
});

describe('a credential', () => {
  for (const kind of ekKinds)
    test(`opens beside an endorsement key of ${kind.name}, and beside the named key alone`, async () => {
      await within(async (tpm) => {
        const ak = await createAk(tpm);
        const { handle } = await createPrimary(tpm, esysHandles.endorsement, kind.template);
        const ek = parseEkPublic(await readPublic(tpm, handle));
        assert.ok(ek);
        const secret = new Uint8Array(randomBytes(32));
        const name = await nameOf(tpm, ak.handle);
        const opened = { handle, public: ek, certificate: undefined };
        assert.deepEqual(await activate(tpm, ak.handle, opened, makeCredential(ek, secret, name)), secret);
        const other = name.map((byte, i) => (i === 33 ? byte ^ 1 : byte));
        await assert.rejects(activate(tpm, ak.handle, opened, makeCredential(ek, secret, other)), TpmError);
      });
    });

  test('opens with tpm2_activatecredential, for keys that tpm2-tools made', () => {
    for (const type of ['rsa', 'ecc']) {
      swtpm.tool('tpm2_createek', '-c', 'ek.ctx', '-G', type, '-u', 'ek.pub');
      swtpm.tool(
        'tpm2_createak',
        '-C',
        'ek.ctx',
        '-c',
        'ak.ctx',
        '-G',
        'ecc',
        '-s',
        'ecdsa',
        '-g',
        'sha256',
        '-n',
        'ak.name',
      );
      swtpm.tool('tpm2_flushcontext', '-t');
      const ek = parseEkPublic(bytesAt('ek.pub'));
      assert.ok(ek, type);
      const secret = new Uint8Array(randomBytes(32));
      const { blob, encryptedSeed } = makeCredential(ek, secret, bytesAt('ak.name'));
      // tpm2-tools' own container: a magic number, a version, then both structures.
      writeFileSync(at('credential'), Buffer.concat([Buffer.from('badcc0de00000001', 'hex'), blob, encryptedSeed]));
      swtpm.tool('tpm2_startauthsession', '--policy-session', '-S', 'session.ctx');
      swtpm.tool('tpm2_policysecret', '-S', 'session.ctx', '-c', 'e');
      swtpm.tool(
        'tpm2_activatecredential',
        '-c',
        'ak.ctx',
        '-C',
        'ek.ctx',
        '-i',
        'credential',
        '-o',
        'secret',
        '-P',
        'session:session.ctx',
      );
      swtpm.tool('tpm2_flushcontext', 'session.ctx');
      swtpm.tool('tpm2_flushcontext', '-t');
      assert.deepEqual(bytesAt('secret'), secret);
    }
  });

  test('of tpm2_makecredential opens here', async () => {
    const { ek, ak } = await within(async (tpm) => ({ ek: await findEk(tpm), ak: await createAk(tpm) }));
    const made = parseAkPublic(ak.public);
    assert.ok(typeof made !== 'string');
    writeFileSync(at('ek.pub'), ek.public.public);
    writeFileSync(at('given'), 'made by tpm2-tools');
    const name = Buffer.from(made.name).toString('hex');
    swtpm.tool('tpm2_makecredential', '-u', 'ek.pub', '-s', 'given', '-n', name, '-o', 'made');
    const container = bytesAt('made').subarray(8);
    const length = 2 + (container[0] ?? 0) * 256 + (container[1] ?? 0);
    const credential = { blob: container.slice(0, length), encryptedSeed: container.slice(length) };
    const opened = await within(
      async (tpm) => await activate(tpm, (await createAk(tpm)).handle, await findEk(tpm), credential),
    );
    assert.equal(Buffer.from(opened).toString(), 'made by tpm2-tools');
  });
});

describe('a quote', () => {
  test('is right for tpm2_checkquote, and wrong with another nonce', async () => {
    const nonce = new Uint8Array(randomBytes(32));
    const { ak, quoted } = await within(async (tpm) => {
      const made = await createAk(tpm);
      return { ak: made.public, quoted: await quote(tpm, made.handle, nonce, [0, 7, 15]) };
    });
    const made = parseAkPublic(ak);
    assert.ok(typeof made !== 'string');
    writeFileSync(at('ak.pem'), made.key.export({ format: 'pem', type: 'spki' }));
    writeFileSync(at('quote'), quoted.attest);
    writeFileSync(at('signature'), quoted.signature);
    const check = (qualification: Uint8Array): string =>
      swtpm.tool(
        'tpm2_checkquote',
        '-u',
        'ak.pem',
        '-m',
        'quote',
        '-s',
        'signature',
        '-g',
        'sha256',
        '-q',
        Buffer.from(qualification).toString('hex'),
      );
    check(nonce);
    assert.throws(() => check(nonce.map((byte) => byte ^ 1)));
    assert.ok(verifies(made, quoted.attest, quoted.signature));
    const info = parseAttest(quoted.attest);
    assert.ok(info?.kind === 'quote');
    assert.deepEqual(info.extraData, nonce);
    assert.deepEqual(info.signer, qualifiedName(made));
    for (let i = 0; i < quoted.attest.length; i++)
      assert.ok(
        !verifies(
          made,
          quoted.attest.map((byte, at) => (at === i ? byte ^ 1 : byte)),
          quoted.signature,
        ),
      );
    for (let length = 0; length < quoted.attest.length; length++)
      assert.equal(parseAttest(quoted.attest.subarray(0, length)), undefined);
  });

  test('of a key that is not restricted is refused before it is made', () => {
    const args = [
      '-C',
      'e',
      '-G',
      'ecc256:ecdsa-sha256:null',
      '-c',
      'free.ctx',
      '-a',
      'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign',
    ];
    swtpm.tool('tpm2_createprimary', ...args);
    swtpm.tool('tpm2_readpublic', '-c', 'free.ctx', '-o', 'free.pub');
    swtpm.tool('tpm2_flushcontext', '-t');
    const problem = parseAkPublic(bytesAt('free.pub'));
    assert.ok(typeof problem === 'string' && problem.startsWith('is not restricted'), String(problem));
    assert.equal(parseAkPublic(sized(contentOf(bytesAt('free.pub')).subarray(0, 5))), 'is damaged');
  });
});
