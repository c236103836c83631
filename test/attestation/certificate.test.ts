/** Certificates of endorsement keys, issued by openssl: each that lacks something is refused, with its reason. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { extensionsIn, namesIn } from '../../src/attestation/certificate-extensions.ts';
import { checkedCertificate, isVirtual, readEkIssuers } from '../../src/attestation/ek-certificate.ts';
import { type Endorsement, parseAnswer, parseChallenge, parseStatement } from '../../src/attestation/messages.ts';
import { attestationPolicyOf } from '../../src/attestation/policy.ts';
import { utf8 } from '../../src/bytes.ts';
import { Failure } from '../../src/failure.ts';
import { ekKinds, findEk, parseEkPublic } from '../../src/tpm2/endorsement-key.ts';
import { openTpm } from '../../src/tpm2/tpm.ts';
import { contentOf, sized } from '../../src/tpm2/wire.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';

const folder = mkdtempSync(join(tmpdir(), 'ek-certificate-'));
const at = (name: string): string => join(folder, name);
const openssl = (...args: string[]): void => {
  const { status, stderr } = spawnSync('openssl', args, { encoding: 'utf8', cwd: folder });
  assert.equal(status, 0, stderr);
};
let swtpm: Swtpm;

before(async () => {
  swtpm = await startSwtpm();
  authority('root');
  authority('issuer', 'root');
  authority('stranger');
  mkdirSync(at('ek-ca'));
  writeFileSync(
    at('ek-ca/maker.pem'),
    `${readFileSync(at('issuer.pem'), 'utf8')}${readFileSync(at('root.pem'), 'utf8')}`,
  );
});
after(async () => {
  await swtpm.stop();
  rmSync(folder, { recursive: true });
});

function request(name: string): void {
  openssl(
    'req',
    '-new',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.csr`,
    '-subj',
    `/CN=${name}`,
  );
}
function authority(name: string, by = name): void {
  request(name);
  writeFileSync(at('ca.ext'), 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n');
  const signer =
    by === name ? ['-signkey', `${name}.key`] : ['-CA', `${by}.pem`, '-CAkey', `${by}.key`, '-CAcreateserial'];
  openssl('x509', '-req', '-in', `${name}.csr`, ...signer, '-days', '9', '-extfile', 'ca.ext', '-out', `${name}.pem`);
}

const right = {
  usage: 'extendedKeyUsage=critical,2.23.133.8.1',
  constraints: 'basicConstraints=critical,CA:FALSE',
  names: 'subjectAltName=critical,dirName:tpm',
} as const;
/** TPMManufacturer, TPMModel and TPMVersion: openssl takes away what is before the first point. */
const section = '[tpm]\n1.2.23.133.2.1=id:494E5443\n2.2.23.133.2.2=Model\n3.2.23.133.2.3=id:00020000\n';

/** The certificate (DER) of a public key (PEM), with these extensions. */
function issued(key: string, extensions: readonly string[], by = 'issuer', days = '9'): Uint8Array {
  writeFileSync(at('ek.pem'), key);
  writeFileSync(at('ek.ext'), `${extensions.join('\n')}\n${section}`);
  request('ek');
  const names = ['-CA', `${by}.pem`, '-CAkey', `${by}.key`, '-CAcreateserial', '-days', days, '-extfile', 'ek.ext'];
  openssl('x509', '-req', '-in', 'ek.csr', '-force_pubkey', 'ek.pem', ...names, '-outform', 'DER', '-out', 'ek.der');
  return new Uint8Array(readFileSync(at('ek.der')));
}

/** An endorsement key on P-256 that is in no TPM. */
const { ek, pem } = (() => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const [kind] = ekKinds;
  assert.ok(kind);
  const fixed = contentOf(kind.template).subarray(0, kind.fixed);
  const point = [x, y].flatMap((part) => [...sized(new Uint8Array(Buffer.from(part, 'base64url')))]);
  const parsed = parseEkPublic(sized(Uint8Array.from([...fixed, ...point])));
  assert.ok(parsed);
  return { ek: parsed, pem: String(publicKey.export({ format: 'pem', type: 'spki' })) };
})();

const refused = (certificate: Uint8Array | undefined, reason: RegExp, now = Date.now()): void => {
  const endorsement: Endorsement = { ek, certificate };
  assert.throws(
    () => checkedCertificate(endorsement, readEkIssuers(at('ek-ca')), now),
    (error) => error instanceof Failure && error.code === 'refused' && reason.test(error.message),
  );
};

describe('the certificate of an endorsement key', () => {
  test('is right if it is of that key and leads to the issuers of the vault', () => {
    const certificate = issued(pem, Object.values(right));
    assert.deepEqual(checkedCertificate({ ek, certificate }, readEkIssuers(at('ek-ca')), Date.now()), {
      chain: ['CN=root', 'CN=issuer'],
      manufacturer: 'id:494E5443',
      model: 'Model',
      version: 'id:00020000',
    });
    const issuer = [new X509Certificate(readFileSync(at('issuer.pem')))];
    assert.deepEqual(checkedCertificate({ ek, certificate }, issuer, Date.now()).chain, ['CN=issuer']);
  });

  test('is refused for each thing that it lacks', () => {
    refused(undefined, /its TPM stores no certificate/);
    refused(utf8('no certificate'), /its TPM stores no certificate/);
    refused(issued(pem, [right.constraints, right.names]), /lacks the usage 2\.23\.133\.8\.1/);
    refused(issued(pem, [right.usage, right.constraints]), /does not name the maker, model and version/);
    refused(issued(pem, [right.usage, right.names, 'basicConstraints=critical,CA:TRUE']), /belongs to an authority/);
    refused(
      issued(pem, [...Object.values(right), '1.2.3.4=critical,DER:0500']),
      /critical extension .* \(1\.2\.3\.4\)/,
    );
    refused(
      issued(pem, Object.values(right), 'stranger'),
      /ek-ca in the vault has no certificate of its issuer, .*CN=stranger/,
    );
    refused(issued(pem, Object.values(right)), /is valid from/, Date.now() + 20 * 86_400_000);
    const another = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
    refused(
      issued(String(another.export({ format: 'pem', type: 'spki' })), Object.values(right)),
      /is for another key/,
    );
  });

  test('is found in a TPM beside its key, whatever fills up the index', async () => {
    const found = async (): Promise<Endorsement> => {
      const tpm = await openTpm(swtpm.device);
      try {
        const { public: key, certificate } = await findEk(tpm);
        return { ek: key, certificate };
      } finally {
        await tpm.close();
      }
    };
    const first = await found();
    assert.equal(first.ek.kind.name, 'ECC P-256');
    assert.equal(first.certificate, undefined);
    const key = createPublicKey(first.ek.key.export({ format: 'pem', type: 'spki' }));
    const certificate = issued(String(key.export({ format: 'pem', type: 'spki' })), Object.values(right));
    writeFileSync(join(swtpm.folder, 'nv'), Buffer.concat([certificate, Buffer.alloc(700, 0xff)]));
    const size = String(certificate.length + 700);
    swtpm.tool(
      'tpm2_nvdefine',
      '-C',
      'p',
      '-s',
      size,
      '-a',
      'ppwrite|ppread|ownerread|authread|no_da|platformcreate',
      '0x1c0000a',
    );
    swtpm.tool('tpm2_nvwrite', '-C', 'p', '-i', 'nv', '0x1c0000a');
    assert.deepEqual((await found()).certificate, certificate);
  });

  test('tells a virtual TPM by its maker', () => {
    for (const vendor of ['IBM', 'id:00001014', 'id:474F4F47', 'MSFT', 'VMW ']) assert.ok(isVirtual(vendor), vendor);
    for (const vendor of ['INTC', 'id:494E5443', 'STM', 'IFX', '']) assert.ok(!isVirtual(vendor), vendor);
  });
});

describe('what comes from outside', () => {
  const hostile = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.json().map(utf8));
  const refusesOrParses = (parse: () => unknown): void => {
    try {
      parse();
    } catch (error) {
      assert.ok(error instanceof Failure, String(error));
    }
  };

  test('is parsed, or refused with a failure', () => {
    fc.assert(
      fc.property(hostile, (bytes) => {
        for (const [, extension] of extensionsIn(bytes)) namesIn(extension);
        namesIn({ isCritical: true, value: bytes });
        assert.equal(parseEkPublic(bytes), undefined);
        for (const parse of [parseStatement, parseChallenge, parseAnswer]) refusesOrParses(() => parse(bytes, 'web1'));
        refusesOrParses(() => attestationPolicyOf(bytes, '/vault/attestation.toml'));
      }),
    );
    assert.throws(() => parseAnswer(utf8(`{"attestation":1,"a":[${'[],'.repeat(300)}0]}`), 'web1'), /is too large/);
  });

  test('is read as a policy with known keys only', () => {
    const policy = (text: string): unknown => attestationPolicyOf(utf8(text), '/vault/attestation.toml');
    assert.throws(() => policy('secureboot = []'), /has no key secureboot$/);
    assert.throws(() => policy('secure-boot = ["missing.crt"]'), /there is no certificate at \/vault\/missing\.crt/);
    assert.throws(() => policy('[pcrs]\n16 = []'), /is not a PCR from 0 to 15/);
    assert.throws(() => policy('[pcrs]\n4 = ["12"]'), /is not a SHA-256 digest/);
    assert.throws(() => policy('pcrs ='), /attestation\.toml:1: it is not TOML/);
  });
});
