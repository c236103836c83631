import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parseOpensshKey } from '../../src/age/openssh-key.ts';
import { exitStatus, type Failure } from '../../src/failure.ts';
import { encodeFixed } from '../../src/fixed/file.ts';
import { proveOpening } from '../../src/machine/opening.ts';
import { encodeQuestion, encodeRequest, parseResult, type Request } from '../../src/push/protocol.ts';
import { type Scope, scopeName } from '../../src/seeds/scope.ts';
import { sealForTransit } from '../../src/seeds/seal.ts';
import { startSwtpm } from '../swtpm.ts';
import { startSwappingProxy } from '../tpm-proxy.ts';
import { commandCodes, leftIn } from '../tpm2/sealing.ts';
import { at, auxcred, environment, makeHost, operator, pushed, put, store, useOperator, works } from './operator.ts';

useOperator('pushed');

test('a host that is killed at any moment opens its seeds, old or new, and the next push finishes', (t) => {
  const through = (from: string, to: string): void => {
    writeFileSync(at('vault/vault.toml'), readFileSync(at('vault/vault.toml'), 'utf8').replace(from, to));
  };
  const started = performance.now();
  pushed('web2', '--reseal');
  const whole = performance.now() - started;
  let unfinished = 0;
  for (let i = 1; i <= 10; i++) {
    works(operator('rekey', '--next', 'host/web2'));
    put('host/web2/round', `round ${String(i)}`);
    writeFileSync(
      at('bin/killed-ssh'),
      '#!/bin/sh\n' +
        `TARGET=\${1#*@} PATH='${at('bin')}':$PATH exec timeout -s KILL ${((whole * i) / 10_000).toFixed(3)} sh -c "$2"\n`,
      { mode: 0o755 },
    );
    through('near-ssh', 'killed-ssh');
    const { rows } = pushed('web2');
    if (
      rows[0]?.result === 'failed' &&
      readFileSync(join(store('web2'), 'pushed.json'), 'utf8').includes('"unfinished":true')
    )
      unfinished++;
    works(['unseal', `--root=${at('web2')}`]);
    through('killed-ssh', 'near-ssh');
    assert.equal(pushed('web2').status, 0);
    assert.equal(works(['get', 'host/web2/round', `--root=${at('web2')}`]), `round ${String(i)}`);
    assert.equal(pushed('web2').rows[0]?.result, 'nothing to do');
  }
  t.diagnostic(`${String(unfinished)} of 10 were killed after they had begun to write`);
});

describe('receive', () => {
  const seedsOf = (host: string): Scope[] => {
    const { scopes }: { scopes: { kind: 'host' | 'group'; name: string; epoch: number; seed: string }[] } = JSON.parse(
      works(operator('scopes', host)),
    );
    return scopes.map((scope) => ({ ...scope, seed: new Uint8Array(Buffer.from(scope.seed, 'base64')) }));
  };
  const nothing: Request = {
    purpose: 'receive',
    seeds: undefined,
    fixed: [],
    removeFixed: [],
    manifest: [],
    removeManifest: [],
    replace: false,
    acceptOlder: false,
    wait: true,
  };
  const receive = (
    host: string,
    request: Request | Uint8Array,
    ...files: Uint8Array[]
  ): { status: number | null; failure: Failure | undefined; stdout: string } => {
    const { status, stdout, stderr } = auxcred(
      ['receive', `--root=${at(host)}`],
      Buffer.concat([request instanceof Uint8Array ? request : encodeRequest(request), ...files]),
    );
    const [, answer] = stdout.split('\n');
    assert.notEqual(answer, undefined, stderr);
    return {
      status,
      failure: answer === '' ? undefined : parseResult(Buffer.from(answer ?? ''), host).failure,
      stdout,
    };
  };
  const untouched = (host: string): unknown => [
    readFileSync(join(store(host), 'seeds.age')),
    readdirSync(store(host), { recursive: true }).sort(),
    readFileSync(join(store(host), 'pushed.json')),
  ];
  const sealedTo = async (host: string, scopes: readonly Scope[]): Promise<Uint8Array> =>
    await sealForTransit(
      {
        counter: 1,
        scopes,
        sealing: { withKey: 'host', recovery: [], pcrs: [], pcrsAtFirstBoot: [], device: undefined },
      },
      parseOpensshKey(readFileSync(at(`${host}/etc/ssh/ssh_host_ed25519_key`))).publicKey,
    );
  const announce = (seeds: Uint8Array): Request => ({
    ...nothing,
    seeds: { length: seeds.length, keepSealing: false, keepRecipients: true, device: undefined, replaces: new Map() },
  });

  test('accepts only the seeds that it is pinned to', async () => {
    const before = untouched('web1');
    const other = await sealedTo('web1', seedsOf('web2'));
    assert.equal(
      receive('web1', announce(other), other).failure?.message,
      'this machine is host/web1, and does not accept seeds of host/web2',
    );
    const forged = await sealedTo(
      'web1',
      seedsOf('web1').map((scope) => ({ ...scope, seed: new Uint8Array(randomBytes(32)) })),
    );
    assert.match(
      receive('web1', announce(forged), forged).failure?.message ?? '',
      /the seed of .* here is unknown to the operator/,
    );
    assert.equal(receive('web1', { ...announce(other), replace: true }, other).failure?.code, 'not-pinned');
    const elsewhere = await sealedTo('web2', seedsOf('web1'));
    assert.equal(receive('web1', announce(elsewhere), elsewhere).failure?.code, 'no-recipient');
    const groupOnly = await sealedTo('web1', seedsOf('web1').slice(1));
    assert.equal(receive('web1', announce(groupOnly), groupOnly).failure?.code, 'malformed');
    const junk = new Uint8Array(200).fill(65);
    assert.equal(receive('web1', announce(junk), junk).failure?.code, 'malformed');
    assert.deepEqual(untouched('web1'), before);
  });

  test('accepts no file that does not open under its name, and removes none that a push did not bring', () => {
    const before = untouched('web1');
    const scope = seedsOf('web1')[0];
    assert.ok(scope);
    const good = encodeFixed(scope.seed, 'a', Date.now(), Buffer.from('value'));
    const one = (name: string, bytes: Uint8Array): Request => ({ ...nothing, fixed: [{ name, length: bytes.length }] });
    assert.match(receive('web1', one('host/web1/b', good), good).failure?.message ?? '', /host\/web1\/b does not open/);
    const bent = Uint8Array.from(good);
    bent[80] = (bent[80] ?? 0) ^ 1;
    assert.match(receive('web1', one('host/web1/a', bent), bent).failure?.message ?? '', /host\/web1\/a does not open/);
    assert.match(receive('web1', one('host/web2/a', good), good).failure?.message ?? '', /no seed for host\/web2/);
    assert.match(
      receive('web1', one('host/web1/WIFI', good), encodeFixed(scope.seed, 'WIFI', Date.now(), Buffer.from('value')))
        .failure?.message ?? '',
      /only in case/,
    );
    assert.match(
      receive('web1', { ...nothing, removeFixed: ['host/web1/mine'] }).failure?.message ?? '',
      /host\/web1\/mine was put or edited on the machine itself, not by a push/,
    );
    assert.equal(
      receive(
        'web1',
        Buffer.from('{"protocol":1,"do":"receive","fixed":[{"name":"host/web1/../../../x","length":161}]}\n'),
      ).status,
      exitStatus.malformed,
    );
    assert.deepEqual(untouched('web1'), before);
    assert.equal(scopeName(scope), 'host/web1');
  });

  test('a connection that ends before everything has arrived changes nothing', () => {
    const before = untouched('web1');
    assert.match(
      receive('web1', { ...nothing, fixed: [{ name: 'host/web1/a', length: 161 }] }, new Uint8Array(100)).failure
        ?.message ?? '',
      /nothing was changed/,
    );
    assert.deepEqual(untouched('web1'), before);
    assert.deepEqual([auxcred(['receive', `--root=${at('web1')}`]).status, untouched('web1')], [0, before]);
  });

  test('an operator who disconnects after everything has arrived stops nothing', async () => {
    const scope = seedsOf('web1')[0];
    assert.ok(scope);
    const file = encodeFixed(scope.seed, 'late', Date.now(), Buffer.from('value'));
    const child = spawn(process.execPath, ['dist/auxcred.cjs', 'receive', `--root=${at('web1')}`], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: environment(),
    });
    const ended = new Promise<number | null>((resolve) => {
      child.once('exit', resolve);
    });
    child.stdout.once('data', () => {
      child.stdout.destroy();
      child.stderr.destroy();
      child.stdin.end(
        Buffer.concat([encodeRequest({ ...nothing, fixed: [{ name: 'host/web1/late', length: file.length }] }), file]),
      );
    });
    await ended;
    assert.equal(works(['get', 'host/web1/late', `--root=${at('web1')}`]), 'value');
    assert.match(readFileSync(join(store('web1'), 'pushed.json'), 'utf8'), /"unfinished":false/);
  });
});

test('a host that was only attested does not open seeds, which it may not have yet', async () => {
  const tpm = await startSwtpm();
  try {
    makeHost('attested');
    const question = encodeQuestion({ device: tpm.device, challenge: undefined });
    const asked = (...lines: readonly Uint8Array[]): [number | null, Failure | undefined] => {
      const { status, stdout } = auxcred(['receive', `--root=${at('attested')}`], Buffer.concat(lines));
      return [status, parseResult(Buffer.from(stdout.trimEnd().split('\n').at(-1) ?? ''), 'attested').failure];
    };
    assert.deepEqual(asked(question, encodeRequest(undefined)), [0, undefined]);
    assert.equal(asked(encodeRequest(undefined))[1]?.code, 'not-found');
  } finally {
    await tpm.stop();
  }
});

test('a host with a TPM that does not answer is not waited for', async () => {
  const tpm = await startSwtpm();
  try {
    makeHost('stuck');
    works(['seal', `--root=${at('stuck')}`, '--with-key=tpm2', '--no-recovery', `--tpm2-device=${tpm.device}`]);
    await proveOpening(at('stuck'), tpm.device);
    tpm.signal('SIGSTOP');
    await assert.rejects(proveOpening(at('stuck'), tpm.device, 300), { code: 'timeout' });
  } finally {
    tpm.signal('SIGCONT');
    await tpm.stop();
  }
});

test('a host whose seeds do not open is not said to lack nothing', async () => {
  const [tpm, other] = [
    await startSwtpm({ pcrs: { 7: ['a7'.repeat(32)] } }),
    await startSwtpm({ pcrs: { 7: ['b7'.repeat(32)] } }),
  ];
  const settings = readFileSync(at('vault/vault.toml'), 'utf8');
  try {
    makeHost('tpm2');
    const plugIn = ({ device }: { device: string }): void => {
      writeFileSync(
        at('bin/tpm-ssh'),
        `#!/bin/sh\nexport AUXCRED_TCTI='${device}'\nTARGET=\${1#*@} PATH='${at('bin')}':$PATH exec sh -c "$2"\n`,
      );
      chmodSync(at('bin/tpm-ssh'), 0o755);
    };
    const enroll = ({ device }: { device: string }, ...options: string[]): string =>
      works(
        ['enroll', 'tpm2', `--vault=${at('vault')}`, ...options, '--from=-'],
        works(['enroll', `--root=${at('tpm2')}`, `--tpm2-device=${device}`]),
      );
    writeFileSync(
      at('vault/vault.toml'),
      `${settings.replace('near-ssh', 'tpm-ssh')}[host.tpm2]\nwith-key = "tpm2"\ntpm2-pcrs = "7"\n`,
    );
    plugIn(tpm);
    enroll(tpm);
    assert.equal(pushed('tpm2').rows[0]?.result, 'done');
    assert.equal(pushed('tpm2').rows[0]?.result, 'nothing to do');

    plugIn(other);
    for (const options of [[], ['--dry-run']]) {
      const { rows, status } = pushed('tpm2', ...options);
      assert.deepEqual([status, rows[0]?.result], [exitStatus['other-tpm'], 'failed']);
      assert.match(rows[0]?.failure?.message ?? '', /the seed was sealed to another TPM, or this one was cleared/);
      assert.equal(
        rows[0]?.failure?.hint,
        'find out why; then ssh root@tpm2 auxcred enroll | auxcred enroll tpm2 --replace --from=-, ' +
          'then auxcred push --reseal tpm2',
      );
    }
    // Sealed to the former TPM, since that is the enrolled one: the way out is the same.
    assert.match(pushed('tpm2', '--reseal').rows[0]?.failure?.hint ?? '', /auxcred enroll tpm2 --replace --from=-/);
    enroll(other, '--replace');
    assert.equal(pushed('tpm2', '--reseal').rows[0]?.result, 'done');
    assert.equal(pushed('tpm2').rows[0]?.result, 'nothing to do');

    plugIn({ device: 'device:/nonexistent' });
    const without = pushed('tpm2').rows[0]?.failure;
    assert.deepEqual(
      [without?.code, without?.hint],
      [
        'no-tpm',
        'find out why; if it has none any more: with-key = "host" of [host.tpm2] in vault.toml, ' +
          'then auxcred push --reseal tpm2',
      ],
    );
    writeFileSync(at('vault/vault.toml'), `${settings.replace('near-ssh', 'tpm-ssh')}[host.tpm2]\nwith-key = "host"\n`);
    assert.equal(pushed('tpm2', '--reseal').rows[0]?.result, 'done');
    assert.equal(pushed('tpm2').rows[0]?.result, 'nothing to do');
  } finally {
    writeFileSync(at('vault/vault.toml'), settings);
    await tpm.stop();
    await other.stop();
  }
});

test('a host that is enrolled with a TPM is sent seeds that only that TPM opens', async () => {
  const [tpm, other] = [await startSwtpm({ pcrs: { 7: ['a7'.repeat(32)] } }), await startSwtpm()];
  try {
    makeHost('tpm1');
    const settings = readFileSync(at('vault/vault.toml'), 'utf8');
    writeFileSync(
      at('bin/tpm-ssh'),
      `#!/bin/sh\nexport AUXCRED_TCTI='${tpm.device}'\n` +
        `tee '${at('carried')}' | TARGET=\${1#*@} PATH='${at('bin')}':$PATH sh -c "$2"\n`,
    );
    chmodSync(at('bin/tpm-ssh'), 0o755);
    writeFileSync(
      at('vault/vault.toml'),
      `${settings.replace('near-ssh', 'tpm-ssh')}[host.tpm1]\nwith-key = "tpm2"\ntpm2-pcrs = "7"\n`,
    );
    works(
      operator('enroll', 'tpm1', '--from=-').filter((word) => !word.startsWith('--identity')),
      works(['enroll', `--root=${at('tpm1')}`, `--tpm2-device=${tpm.device}`]),
    );
    const { rows, stderr } = pushed('tpm1');
    assert.equal(rows[0]?.result, 'done', stderr);
    const carried = readFileSync(at('carried'), 'latin1');
    assert.match(carried, /-> auxcred\/tpm2/);
    assert.ok(!carried.includes('-> ssh-ed25519'));
    assert.match(stderr, /tpm1: sealed the seed of host\/tpm1 to its TPM/);
    assert.equal(pushed('tpm1').rows[0]?.result, 'nothing to do');
    writeFileSync(at('vault/vault.toml'), settings);

    const [sealed, proxy] = [
      readFileSync(join(store('tpm1'), 'seeds.age')),
      await startSwappingProxy(tpm.device, other.device, { code: commandCodes.unseal, times: 1 }),
    ];
    try {
      const child = spawn(
        process.execPath,
        ['dist/auxcred.cjs', 'receive', `--root=${at('tpm1')}`, `--tpm2-device=${proxy.device}`],
        { env: environment() },
      );
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      child.stdin.end(Buffer.from(carried, 'latin1'));
      assert.deepEqual(await once(child, 'close'), [exitStatus['other-tpm'], null]);
      assert.match(said, /not the one that opened the seeds/);
      assert.ok(proxy.hasSwapped() && sealed.equals(readFileSync(join(store('tpm1'), 'seeds.age'))));
      assert.equal(leftIn(other), '');
    } finally {
      await proxy.stop();
    }
  } finally {
    await tpm.stop();
    await other.stop();
  }
});
