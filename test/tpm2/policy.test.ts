import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { isWithinReach } from '../../src/seeds/policies.ts';
import { parsePcrlock } from '../../src/tpm2/pcrlock.ts';
import {
  addBranch,
  afterPcrs,
  type PcrValues,
  policyDigest,
  startDigest,
  type TpmPolicy,
} from '../../src/tpm2/policy.ts';
import { satisfy, sessionDigest } from '../../src/tpm2/policy-session.ts';
import { seal, sessionTypes, startSession } from '../../src/tpm2/sealed-object.ts';
import { findSrk } from '../../src/tpm2/srk.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { startTpmProxy } from '../tpm-proxy.ts';
import { pcrlockIndex } from './pcrlock-index.ts';
import { enterPhase, entry, makeSigner, phaseValue, signedBy, valuesAt, writeSignatures } from './policies.ts';
import { command, commandCodes, digest, failsWith, hex, leftIn, secret, unsealAt, withTpm } from './sealing.ts';

const image = digest('b1');
const phases = ['enter-initrd', 'leave-initrd', 'sysinit', 'ready'] as const;
/** The boot phases in which units start. */
const unitPhases = [2, 3, 4].map((count) => phases.slice(0, count));
const at = (...words: readonly string[]): PcrValues => new Map([[11, phaseValue(image, ...words)]]);

describe('policies of a TPM', () => {
  let swtpm: Swtpm;
  const signer = makeSigner();
  const other = makeSigner();
  const sealUnder = async (value: Uint8Array, policy: TpmPolicy): Promise<Awaited<ReturnType<typeof seal>>> =>
    await withTpm(swtpm.device, async (tpm) => await seal(tpm, value, policy));
  /** The digest of a session, real or trial, after the policy's commands. */
  const tpmDigest = async (policy: TpmPolicy): Promise<string> =>
    await withTpm(swtpm.device, async (tpm) => {
      const srk = await findSrk(tpm);
      const session = await startSession(tpm, srk, sessionTypes.policy, { encrypted: false });
      await satisfy(tpm, session, policy, '');
      return hex(await sessionDigest(tpm, session));
    });
  const toPhases = (words: readonly string[]): void => {
    for (const word of words) enterPhase(swtpm, word);
  };

  before(async () => {
    swtpm = await startSwtpm({ pcrs: { 4: [digest('a4')], 7: [digest('a7')], 11: [image] } });
  });
  beforeEach(async () => {
    await swtpm.powerCut();
  });
  after(async () => {
    await swtpm.stop();
  });

  describe('literal', () => {
    test('any of eight branches opens, none other, and a ninth is refused', async () => {
      const value = secret();
      const now = await valuesAt(swtpm, [4, 7]);
      const elsewhere = (byte: number): PcrValues =>
        new Map([...now].map(([pcr]) => [pcr, new Uint8Array(32).fill(byte)]));
      const seven = [1, 2, 3, 4, 5, 6, 7].map(elsewhere).reduce<PcrValues[]>(addBranch, []);
      const eight = addBranch(seven, now);
      assert.deepEqual(addBranch(eight, now), eight);
      assert.throws(() => addBranch(eight, elsewhere(9)), failsWith('refused', /8 branches/));
      assert.throws(() => addBranch([now], new Map([[7, digest32(1)]])), failsWith('refused', /PCR 4\+7.*PCR 7/));
      const policy: TpmPolicy = { bank: 'sha256', authority: undefined, branches: eight };
      assert.equal(await tpmDigest(policy), hex(policyDigest(policy)));
      const sealed = await sealUnder(value, policy);
      assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
      await assert.rejects(
        unsealAt(swtpm.device, await sealUnder(value, { ...policy, branches: seven })),
        failsWith('pcr-mismatch', /any of 7 accepted ways; in the closest: PCR 4 .*, PCR 7 /),
      );
      swtpm.tool('tpm2_pcrextend', `7:sha256=${digest('99')}`);
      await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('pcr-mismatch', /closest: PCR 7 \(sealed at /));
      assert.equal(leftIn(swtpm), '');
    });

    test('the digest of two branches is that of tpm2_policyor', async () => {
      const now = await valuesAt(swtpm, [4, 7]);
      swtpm.tool('tpm2_startauthsession', '-S', 'trial.ctx');
      swtpm.tool('tpm2_policypcr', '-S', 'trial.ctx', '-l', 'sha256:4,7', '-L', 'one.digest');
      swtpm.tool('tpm2_flushcontext', 'trial.ctx');
      swtpm.tool('tpm2_pcrextend', `4:sha256=${digest('44')}`);
      const later = await valuesAt(swtpm, [4, 7]);
      swtpm.tool('tpm2_startauthsession', '-S', 'trial.ctx');
      swtpm.tool('tpm2_policypcr', '-S', 'trial.ctx', '-l', 'sha256:4,7', '-L', 'two.digest');
      swtpm.tool('tpm2_policyor', '-S', 'trial.ctx', '-L', 'or.digest', '-l', 'sha256:one.digest,two.digest');
      swtpm.tool('tpm2_flushcontext', 'trial.ctx');
      const policy: TpmPolicy = { bank: 'sha256', authority: undefined, branches: [now, later] };
      assert.equal(hex(policyDigest(policy)), hex(readFileSync(join(swtpm.folder, 'or.digest'))));
    });
  });

  describe('signed', () => {
    const signatures = (): string =>
      writeSignatures(
        swtpm.folder,
        unitPhases.map((words) => entry(signer, at(...words))),
      );

    test('opens in each phase in which units start, and in no other', async () => {
      const value = secret();
      const file = signatures();
      const sealed = await sealUnder(value, signedBy(signer, file));
      toPhases(['enter-initrd']);
      await assert.rejects(
        unsealAt(swtpm.device, sealed),
        failsWith('pcr-mismatch', /PCR 11 has a value that no signature covers .* has 3 of the right key/),
      );
      for (const phase of ['leave-initrd', 'sysinit', 'ready']) {
        enterPhase(swtpm, phase);
        assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
      }
      enterPhase(swtpm, 'shutdown');
      await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('pcr-mismatch', /no signature covers/));
      assert.equal(leftIn(swtpm), '');
    });

    test('another image opens once its own signatures are there', async () => {
      const value = secret();
      const file = signatures();
      const sealed = await sealUnder(value, signedBy(signer, file));
      swtpm.tool('tpm2_pcrextend', `11:sha256=${digest('b2')}`);
      await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('pcr-mismatch', /no signature covers/));
      writeSignatures(swtpm.folder, [
        entry(other, await valuesAt(swtpm, [11])),
        entry(signer, await valuesAt(swtpm, [11])),
      ]);
      assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
    });

    test('a signature that is missing, of another key, of other PCRs, forged: each has its message', async () => {
      toPhases(unitPhases[2] ?? []);
      const now = await valuesAt(swtpm, [11]);
      const file = join(swtpm.folder, 'signature.json');
      const sealed = await sealUnder(secret(), signedBy(signer, file));
      const refused = async (text: RegExp): Promise<void> => {
        await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('pcr-mismatch', text));
      };
      rmSync(file, { force: true });
      await refused(/there is no signature of PCR 11: no .*signature\.json/);
      writeSignatures(swtpm.folder, [entry(other, now)]);
      await refused(/by another key/);
      writeSignatures(swtpm.folder, []);
      await refused(/by no key/);
      writeSignatures(swtpm.folder, [entry(signer, await valuesAt(swtpm, [7, 11]))]);
      await refused(/has no signature of exactly PCR 11/);
      const good = JSON.parse(JSON.stringify(entry(signer, now))) as unknown;
      assert.ok(good !== null && typeof good === 'object');
      const forged = JSON.parse(JSON.stringify(entry(other, now))) as unknown;
      assert.ok(forged !== null && typeof forged === 'object' && 'sig' in forged);
      writeSignatures(swtpm.folder, [{ ...good, sig: forged.sig }]);
      await refused(/signature for PCR 11 in .* is not valid/);
      writeFileSync(file, 'not JSON');
      await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('malformed', /signature\.json/));
      assert.equal(leftIn(swtpm), '');
    });

    test('another system reaches PCR 11, and opens unless PCR 7 is required', async () => {
      const value = secret();
      const [alone, bound] = [
        signedBy(signer, signatures()),
        signedBy(signer, signatures(), [new Map([[7, digest32(3)]])]),
      ];
      assert.deepEqual([alone, bound].map(isWithinReach), [true, false]);
      // Nothing but what root may do on a system without systemd-stub.
      toPhases(unitPhases[0] ?? []);
      assert.equal(hex(await unsealAt(swtpm.device, await sealUnder(value, alone))), hex(value));
      await assert.rejects(unsealAt(swtpm.device, await sealUnder(value, bound)), failsWith('pcr-mismatch', /PCR 7/));
    });

    test('literal PCRs are required in addition', async () => {
      const value = secret();
      toPhases(unitPhases[1] ?? []);
      const seven = await valuesAt(swtpm, [7]);
      for (const branches of [[seven], [new Map([[7, digest32(3)]]), seven]]) {
        const policy = signedBy(signer, signatures(), branches);
        assert.equal(await tpmDigest(policy), hex(policyDigest(policy)));
        const sealed = await sealUnder(value, policy);
        assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
      }
      const sealed = await sealUnder(value, signedBy(signer, signatures(), [seven]));
      swtpm.tool('tpm2_pcrextend', `7:sha256=${digest('77')}`);
      await assert.rejects(
        unsealAt(swtpm.device, sealed),
        failsWith('pcr-mismatch', /^(?!.*PCR 11).*PCR 7 \(sealed at/),
      );
    });

    test('the digest is that of tpm2_policyauthorize', async () => {
      const { authority, ...policy } = signedBy(signer, signatures());
      writeFileSync(join(swtpm.folder, 'key.pub'), authority.key.public);
      swtpm.tool('tpm2_loadexternal', '-C', 'o', '-u', 'key.pub', '-c', 'key.ctx', '-n', 'key.name');
      assert.equal(hex(readFileSync(join(swtpm.folder, 'key.name'))), hex(authority.key.name));
      swtpm.tool('tpm2_flushcontext', '-t');
      writeFileSync(join(swtpm.folder, 'approved'), afterPcrs(startDigest, at('ready')));
      swtpm.tool('tpm2_startauthsession', '-S', 'trial.ctx');
      swtpm.tool(
        'tpm2_policyauthorize',
        '-S',
        'trial.ctx',
        '-i',
        'approved',
        '-n',
        'key.name',
        '-L',
        'authorized.digest',
      );
      swtpm.tool('tpm2_flushcontext', 'trial.ctx');
      assert.equal(
        hex(policyDigest({ ...policy, authority })),
        hex(readFileSync(join(swtpm.folder, 'authorized.digest'))),
      );
    });

    test('systemd itself takes the same signatures for the same values', async () => {
      const file = signatures();
      writeFileSync(join(swtpm.folder, 'key.pem'), signer.pem);
      writeFileSync(join(swtpm.folder, 'plain'), 'a value');
      const creds = (...args: readonly string[]): ReturnType<typeof spawnSync> =>
        spawnSync('systemd-creds', ['--name=x', `--tpm2-device=${swtpm.device}`, ...args], {
          cwd: swtpm.folder,
          encoding: 'utf8',
        });
      const encrypted = creds(
        'encrypt',
        ...[
          '--with-key=tpm2-with-public-key',
          '--tpm2-public-key=key.pem',
          '--tpm2-public-key-pcrs=11',
          '--tpm2-pcrs=',
        ],
        ...['plain', 'x.cred'],
      );
      assert.equal(encrypted.status, 0, String(encrypted.stderr));
      const sealed = await sealUnder(secret(), signedBy(signer, file));
      const systemdOpens = (): boolean =>
        creds('decrypt', `--tpm2-signature=${file}`, 'x.cred', '-').stdout === 'a value';
      const weOpen = async (): Promise<boolean> =>
        await unsealAt(swtpm.device, sealed).then(
          () => true,
          (error: unknown) => {
            assert.ok(failsWith('pcr-mismatch')(error), String(error));
            return false;
          },
        );
      for (const phase of [...phases, 'shutdown']) {
        enterPhase(swtpm, phase);
        const isUnitPhase = ['leave-initrd', 'sysinit', 'ready'].includes(phase);
        assert.equal(systemdOpens(), isUnitPhase, phase);
        // systemd leaves objects behind in a TPM without a resource manager.
        for (const kind of ['-t', '-l', '-s']) swtpm.tool('tpm2_flushcontext', kind);
        assert.equal(await weOpen(), isUnitPhase, phase);
      }
    });

    test('a phase that begins while the policy is being satisfied is met with its own signature', async () => {
      const value = secret();
      const sealed = await sealUnder(value, signedBy(signer, signatures()));
      toPhases(unitPhases[0] ?? []);
      const waiting = new Map<number, string>([
        // Between the choice of the signature and its use, then between PolicyAuthorize and Unseal.
        [commandCodes.verifySignature, 'sysinit'],
        [commandCodes.unseal, 'ready'],
      ]);
      const proxy = await startTpmProxy(swtpm.device, (code) => {
        const phase = waiting.get(code);
        waiting.delete(code);
        return phase === undefined ? undefined : extension(11, createHash('sha256').update(phase).digest());
      });
      try {
        assert.equal(hex(await unsealAt(proxy.device, sealed)), hex(value));
      } finally {
        await proxy.stop();
      }
      assert.equal(waiting.size, 0);
      assert.equal(hex((await valuesAt(swtpm, [11])).get(11) ?? startDigest), hex(phaseValue(image, ...phases)));
    });
  });

  describe('pcrlock', () => {
    const index = 0x1930e9e;
    const { define, predict, write, file } = pcrlockIndex(() => swtpm, index);
    const locked = (branches: readonly PcrValues[] = []): TpmPolicy => {
      const { values: _, ...rest } = parsePcrlock(new Uint8Array(readFileSync(file())), file());
      return { bank: 'sha256', authority: { kind: 'pcrlock', ...rest }, branches };
    };
    /** Two predicted values of PCR 4 and 11, one of 7: as of two kernels. */
    const prediction = async (): Promise<Map<number, Uint8Array[]>> => {
      const now = await valuesAt(swtpm, [4, 7, 11]);
      return new Map([...now].map(([pcr, value]) => [pcr, pcr === 7 ? [value] : [digest32(pcr), value]]));
    };

    test('opens what was predicted, and after another prediction what that has, without sealing again', async () => {
      const value = secret();
      define();
      const first = await prediction();
      write(first);
      predict(first);
      const policy = locked([await valuesAt(swtpm, [7])]);
      assert.equal(await tpmDigest(policy), hex(policyDigest(policy)));
      const sealed = await sealUnder(value, policy);
      assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));

      swtpm.tool('tpm2_pcrextend', `4:sha256=${digest('44')}`);
      await assert.rejects(
        unsealAt(swtpm.device, sealed),
        failsWith('pcr-mismatch', /did not predict what booted: PCR 4 \(now [0-9a-f]{16}\)$/),
      );
      const second = await prediction();
      write(second);
      await assert.rejects(
        unsealAt(swtpm.device, sealed),
        failsWith('pcr-mismatch', /the policy of the TPM's NV index \S+ is not that of/),
      );
      predict(second);
      assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
      assert.equal(leftIn(swtpm), '');
    });

    test('an index or file that is gone, made again or another one is refused', async () => {
      define();
      const values = await prediction();
      write(values);
      predict(values);
      const sealed = await sealUnder(secret(), locked());
      const refused = async (text: RegExp): Promise<void> => {
        await assert.rejects(unsealAt(swtpm.device, sealed), failsWith('pcr-mismatch', text));
      };
      rmSync(file());
      await refused(/there is no .*pcrlock\.json/);
      write(values);
      write(values, index + 1);
      await refused(/describes the NV index 0x1930e9f, but the seed is sealed to 0x1930e9e/);
      write(values);
      swtpm.tool('tpm2_nvundefine', '-C', 'o', String(index));
      await refused(/systemd-pcrlock removed it, or made it again/);
      swtpm.tool('tpm2_nvdefine', String(index), '-C', 'o', '-s', '34', '-a', 'ownerwrite|ownerread');
      swtpm.tool('tpm2_nvwrite', String(index), '-C', 'o', '-i', 'predicted');
      await refused(/removed it, or made it again/);
      assert.equal(leftIn(swtpm), '');
    });

    test('the digest is that of tpm2_policyauthorizenv', async () => {
      define();
      const values = new Map([...(await valuesAt(swtpm, [4, 7]))].map(([pcr, value]) => [pcr, [value]]));
      write(values);
      predict(values);
      swtpm.tool('tpm2_startauthsession', '-S', 'session.ctx', '--policy-session');
      swtpm.tool('tpm2_policypcr', '-S', 'session.ctx', '-l', 'sha256:4,7');
      swtpm.tool('tpm2_policyauthorizenv', '-S', 'session.ctx', '-C', 'o', '-L', 'nv.digest', String(index));
      swtpm.tool('tpm2_flushcontext', 'session.ctx');
      assert.equal(hex(policyDigest(locked())), hex(readFileSync(join(swtpm.folder, 'nv.digest'))));
    });
  });
});

/** TPM2_PCR_Extend with one SHA-256 digest (part 3, section 22.2). */
const extension = (pcr: number, value: Uint8Array): Buffer =>
  command(commandCodes.pcrExtend, pcr, Uint8Array.from([0, 0, 0, 1, 0, 0x0b, ...value]));
const digest32 = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
