/** systemd-pcrlock itself predicts, on a TPM that measured what a real boot did: auxcred takes its policy as it is. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type PcrlockPrediction, parsePcrlock, predictionSteps } from '../../src/tpm2/pcrlock.ts';
import { seal } from '../../src/tpm2/sealed-object.ts';
import { cannotBoot } from '../machine/machine.ts';
import { debianRoot, systemdVersions } from '../machine/root.ts';
import { firmwareOf, logOf, userspaceOf } from '../measured/samples.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { failsWith, hex, secret, unsealAt, withTpm } from './sealing.ts';

/** The oldest of the tests' versions that has systemd-pcrlock as it is today. */
const version = systemdVersions.find((one) => one === '257');

describe('systemd-pcrlock 257', { skip: version === undefined ? 'another version is tested' : cannotBoot }, () => {
  let folder = '';
  let swtpm: Swtpm;
  let prediction: PcrlockPrediction;

  /** Runs a script in a layer over the version's root that goes with it; `$pcrlock` is the program with the logs. */
  const inRoot = async (script: string): Promise<void> => {
    const lower = await debianRoot('257');
    const { status, stderr } = spawnSync(
      'unshare',
      [
        ...['--mount', 'sh', '-euc'],
        `mount -t tmpfs none /mnt
        mkdir /mnt/upper /mnt/work /mnt/root
        mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
        mkdir /mnt/root/test
        mount --bind "$2" /mnt/root/test
        mount --bind /dev /mnt/root/dev
        mount -t proc proc /mnt/root/proc
        pcrlock="chroot /mnt/root env SYSTEMD_MEASURE_LOG_FIRMWARE=/test/firmware
          SYSTEMD_MEASURE_LOG_USERSPACE=/test/userspace SYSTEMD_TPM2_DEVICE=swtpm:path=/test/tpm
          /usr/lib/systemd/systemd-pcrlock"
        ${script}
        cp /mnt/root/var/lib/systemd/pcrlock.json "$2"`,
        ...['sh', lower, folder],
      ],
      { encoding: 'utf8' },
    );
    assert.equal(status, 0, stderr);
  };

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pcrlock-'));
    swtpm = await startSwtpm({ folder });
    copyFileSync(firmwareOf('a-boot1'), join(folder, 'firmware'));
    copyFileSync(userspaceOf('a-boot1'), join(folder, 'userspace'));
    const measured = logOf('a-boot1').events.filter(({ isMeasured }) => isMeasured);
    const inBanks = (digests: ReadonlyMap<string, Uint8Array>): string =>
      [...digests].map(([bank, value]) => `${bank}=${hex(value)}`).join(',');
    swtpm.tool('tpm2_pcrextend', ...measured.map(({ pcr, digests }) => `${String(pcr)}:${inBanks(digests)}`));
    await inRoot('$pcrlock lock-firmware-code; $pcrlock lock-firmware-config; $pcrlock make-policy --pcr=0,1,2,3');
    prediction = parsePcrlock(readFileSync(join(folder, 'pcrlock.json')), 'pcrlock.json');
  });
  after(async () => {
    await swtpm?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('writes the policy into its index that auxcred computes from pcrlock.json', () => {
    assert.deepEqual(prediction.pcrs, [0, 1, 2, 3]);
    assert.ok([...prediction.values.values()].every((values) => values.length === 2));
    const index = `0x${prediction.index.toString(16)}`;
    swtpm.tool('tpm2_nvread', '-C', 'o', '-s', '34', '-o', 'policy', index);
    assert.equal(hex(readFileSync(join(folder, 'policy'))), `000b${hex(predictionSteps(prediction).digest)}`);
  });

  test('lets the TPM open what auxcred sealed to it, until something else is measured', async () => {
    const { values: _, ...authority } = prediction;
    const file = join(folder, 'pcrlock.json');
    const value = secret();
    const sealed = await withTpm(
      swtpm.device,
      async (tpm) =>
        await seal(tpm, value, { bank: 'sha256', authority: { kind: 'pcrlock', ...authority, file }, branches: [] }),
    );
    assert.equal(hex(await unsealAt(swtpm.device, sealed)), hex(value));
    swtpm.tool('tpm2_pcrextend', `2:sha256=${'22'.repeat(32)}`);
    await assert.rejects(
      unsealAt(swtpm.device, sealed),
      failsWith('pcr-mismatch', /did not predict what booted: PCR 2/),
    );
  });
});
