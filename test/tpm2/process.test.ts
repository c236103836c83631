import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { bind, LibraryMissing } from '../../src/system/ffi.ts';
import { openTpm } from '../../src/tpm2/tpm.ts';
import { tpmVendor } from '../../src/tpm2/vendor.ts';
import { type Swtpm, startSwtpm } from '../swtpm.ts';
import { failsWith, withTpm } from './sealing.ts';

const moduleAt = (path: string): string => JSON.stringify(import.meta.resolve(path));

/** Seals and unseals at the device in AUXCRED_TCTI, or prints the code of the failure. */
const program = `
  import { Failure } from ${moduleAt('../../src/failure.js')};
  import { readPcrs } from ${moduleAt('../../src/tpm2/pcr.js')};
  import { literalPolicy } from ${moduleAt('../../src/tpm2/policy.js')};
  import { seal, unseal } from ${moduleAt('../../src/tpm2/sealed-object.js')};
  import { openTpm } from ${moduleAt('../../src/tpm2/tpm.js')};
  try {
    const tpm = await openTpm(process.env.AUXCRED_TCTI);
    const sealed = await seal(tpm, new Uint8Array(32).fill(7), literalPolicy(await readPcrs(tpm, [7])));
    console.log((await unseal(tpm, sealed)).every((byte) => byte === 7) ? 'unsealed' : 'wrong');
    await tpm.close();
  } catch (error) {
    console.log(error instanceof Failure ? error.code + ': ' + error.message + ': ' + error.hint : String(error));
  }`;

describe('in a process of its own', () => {
  let swtpm: Swtpm;
  before(async () => {
    swtpm = await startSwtpm();
  });
  after(async () => {
    await swtpm.stop();
  });

  const run = (device: string, command: readonly string[] = []): { stdout: string; stderr: string } => {
    const [file = '', ...args] = [...command, process.execPath, '--input-type=module', '-e', program];
    return spawnSync(file, args, {
      encoding: 'utf8',
      timeout: 30_000,
      env: { PATH: process.env['PATH'], AUXCRED_TCTI: device },
    });
  };

  test('it works without a compiler for machine code, as the hardened units run it', () => {
    const { stdout, stderr } = run(swtpm.device, ['env', 'NODE_OPTIONS=--jitless']);
    assert.equal(stdout, 'unsealed\n', stderr);
  });

  test('it waits for the room that another process needs for its work', () => {
    const tools = { ...process.env, TPM2TOOLS_TCTI: swtpm.device };
    const tpm2 = (command: string): string =>
      execFileSync('sh', ['-c', command], { encoding: 'utf8', env: tools, stdio: ['ignore', 'pipe', 'pipe'] });
    const fill = 'for i in 1 2 3; do tpm2_createprimary -Q -C o; done';
    const flush = 'tpm2_flushcontext --transient-object';
    try {
      tpm2(fill);
      assert.match(
        run(swtpm.device).stdout,
        /^tpm: the TPM has no room for another session or object: another program/,
      );
      const other = spawn('sh', ['-c', `sleep 0.7; ${flush}`], { env: tools, stdio: 'ignore' });
      const { stdout, stderr } = run(swtpm.device);
      assert.equal(stdout, 'unsealed\n', stderr);
      assert.notEqual(other.pid, undefined);
    } finally {
      tpm2(flush);
    }
  });

  test('an unreachable TPM is one failure, and libtss2 prints nothing', () => {
    const { stdout, stderr } = run('swtpm:path=/nonexistent');
    assert.match(stdout, /^no-tpm: the TPM at swtpm:path=\/nonexistent can't be opened/);
    assert.equal(stderr, '');
  });

  test('a missing libtss2 names the package', () => {
    const library = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu']
      .map((folder) => `${folder}/libtss2-esys.so.0`)
      .find(existsSync);
    assert.ok(library);
    const { stdout, stderr } = run(swtpm.device, [
      'unshare',
      '--mount',
      '--map-root-user',
      'sh',
      '-c',
      'mount --bind /dev/null "$0" && exec "$@"',
      library,
    ]);
    assert.match(stdout, /^no-tpm: the TPM library libtss2 is not installed: .*apt install libtss2-esys/, stderr);
  });
});

test('a TPM that hangs blocks nothing else', async () => {
  const swtpm = await startSwtpm();
  try {
    swtpm.signal('SIGSTOP');
    let ticks = 0;
    const clock = setInterval(() => {
      if (++ticks === 20) swtpm.signal('SIGCONT');
    }, 10);
    const tpm = await openTpm(swtpm.device);
    clearInterval(clock);
    await tpm.close();
    assert.ok(ticks >= 20);
  } finally {
    await swtpm.stop();
  }
});

test('the vendor is the one that tpm2-tools read', async () => {
  const swtpm = await startSwtpm();
  try {
    const { manufacturer, model, firmware } = await withTpm(swtpm.device, tpmVendor);
    const told = swtpm.tool('tpm2_getcap', 'properties-fixed');
    const raw = (property: string): number =>
      Number(new RegExp(`${property}:\\n +raw: (0x[0-9A-Fa-f]+)`).exec(told)?.[1]);
    const words = (value: number): number[] => [value >>> 16, value & 0xffff];
    assert.equal(manufacturer, 'IBM');
    assert.match(model, /^SW +TPM$/);
    assert.equal(
      firmware,
      [...words(raw('TPM2_PT_FIRMWARE_VERSION_1')), ...words(raw('TPM2_PT_FIRMWARE_VERSION_2'))].join('.'),
    );
  } finally {
    await swtpm.stop();
  }
});

describe('foreign functions', () => {
  test('numbers, text and memory go in and out', async () => {
    const libc = bind('libc.so.6', {
      strlen: 'z:s',
      memcmp: 'i:ppz',
      htons: 'h:h',
      htonl: 'u:u',
      llabs: 'l:l',
      memset: 'p:piz',
      usleep: 'i:u',
    });
    assert.equal(Number(libc.strlen('seed')), 4);
    assert.ok(Number(libc.memcmp(Buffer.from('a'), Buffer.from('b'), 1)) < 0);
    assert.equal(libc.htons(0x0102), 0x0201);
    assert.equal(libc.htonl(0xff000001), 0x010000ff);
    assert.equal(BigInt(libc.llabs(-(2n ** 62n))), 2n ** 62n);
    const memory = Buffer.alloc(4);
    const pointer = libc.memset(memory, 7, 4);
    assert.deepEqual([...memory], [7, 7, 7, 7]);
    libc.memset(pointer, 8, 2);
    assert.deepEqual([...memory], [8, 8, 7, 7]);
    assert.equal(await libc.usleep.async(1), 0);
    assert.throws(() => libc.htons('5'), TypeError);
    await assert.rejects(async () => await libc.usleep.async('5'), TypeError);
    assert.throws(() => libc.htons(), TypeError);
  });
  test('what is missing is named', () => {
    assert.throws(
      () => bind('libnot-there.so.0', {}),
      (error) => error instanceof LibraryMissing && /libnot-there\.so\.0/.test(error.message),
    );
    assert.throws(() => bind('libc.so.6', { not_there: 'i:' }), failsWith('system', /not_there/));
    assert.throws(() => bind('libc.so.6', { strlen: 'z:x' }), TypeError);
  });
});
