/**
 * The broker in this process, on sockets as systemd makes them. Its clients are processes in control groups of units.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createDecipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { type Answers, Broker, socketNames } from '../../src/broker/broker.ts';
import { openServedSecrets } from '../../src/broker/served-secrets.ts';
import { parseAnswer } from '../../src/broker/stage-message.ts';
import { Failure } from '../../src/failure.ts';
import { bind } from '../../src/system/ffi.ts';
import { HostSecret } from '../../src/system/host-credential.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { works } from '../cli.ts';
import { furnish, manifestIn } from '../commands/root.ts';
import { controlGroupMounts } from '../machine/layer.ts';

const libc = bind('libc.so.6', { socket: 'i:iii', bind: 'i:ipu', listen: 'i:ii', close: 'i:i' });
const [unixFamily, stream] = [1, 1];

/** Moves itself into control groups, connects under a name, sends a request and prints the answer. */
const client = `
use Socket; use IO::Handle;
my ($path, $name, $request, @groups) = @ARGV;
for my $group (@groups) {
  open(my $procs, '>', "$group/cgroup.procs") or die "$group: $!";
  print $procs $$;
  close($procs) or die "$group: $!";
}
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
if (length $name) { bind($s, pack_sockaddr_un("\\0$name")) or die "bind: $!" }
connect($s, pack_sockaddr_un($path)) or die "connect: $!";
print $s $request; $s->flush; shutdown($s, 1);
while (sysread($s, my $part, 65536)) { print $part }
`;

/** What a host secret of systemd's looks like. */
const secretFile = Uint8Array.from({ length: 4112 }, (_, i) => (i * 11) % 256);
/** A unit of nobody else's on this host. */
const unit = `auxcred-broker-test-${String(process.pid)}.service`;
const { unified, named } = controlGroupMounts();
const groups = [unified, ...(named === undefined ? [] : [named])].map((mount) => join(mount, unit));

let folder: string;
const root = (): string => join(folder, 'root');
const manifest = (generation: number): string =>
  `[secret.key]\nkind = "hex"\ngeneration = ${String(generation)}\nunits = ["${unit}"]\n` +
  `[secret.staged]\nkind = "hex"\ndelivery = "stage"\nunits = ["${unit}"]\n` +
  '[secret.other]\nkind = "hex"\nunits = ["other.service"]\n';
const shown = (name: string): string => works(['get', name, `--root=${root()}`]).stdout.trim();
const apply = (generation: number): void => {
  writeFileSync(manifestIn(root()), manifest(generation));
  works(['apply', `--root=${root()}`]);
};

/** The value in an answer to systemd, opened as systemd does. */
function opened(answer: Buffer): { name: string; value: string } {
  const whole = Buffer.from(answer.toString(), 'base64');
  const key = createHash('sha256').update(secretFile.subarray(16)).digest();
  const decipher = createDecipheriv('aes-256-gcm', key, whole.subarray(32, 44), { authTagLength: 16 });
  decipher.setAAD(whole.subarray(0, 48));
  decipher.setAuthTag(whole.subarray(-16));
  const plain = Buffer.concat([decipher.update(whole.subarray(48, -16)), decipher.final()]);
  const length = plain.readUInt32LE(16);
  return {
    name: plain.toString('utf8', 20, 20 + length),
    value: plain.toString('utf8', Math.ceil((20 + length) / 8) * 8),
  };
}

const asRoot = process.env['CI'] === undefined && process.getuid?.() !== 0 ? 'control groups need root' : false;

describe('the broker', { skip: asRoot }, () => {
  let descriptors: Map<string, number>;
  let broker: Broker;
  /** The statuses that it wanted to exit with, and what waits for the first. */
  let exits: number[];
  let exited: Promise<void>;
  let isSecretStale = false;

  const pathOf = (socket: keyof typeof socketNames): string => join(folder, socket);
  const listening = (path: string): number => {
    const address = Buffer.concat([Buffer.from([unixFamily, 0]), Buffer.from(`${path}\0`)]);
    const descriptor = Number(libc.socket(unixFamily, stream, 0));
    assert.equal(libc.bind(descriptor, address, address.length), 0);
    assert.equal(libc.listen(descriptor, 16), 0);
    return descriptor;
  };
  const serve = (answers: Answers): void => {
    exits = [];
    exited = new Promise((resolve) => {
      broker = new Broker(answers, (code) => {
        exits.push(code);
        resolve();
      });
    });
    broker.listen(descriptors);
  };
  const serveOpened = async (isLast = false): Promise<void> => {
    const keys = { ssh: join(root(), 'etc/ssh/ssh_host_ed25519_key'), age: undefined };
    serve({
      opened: await openServedSecrets(pathsUnder(root()), { keys, device: undefined }),
      secret: new HostSecret(secretFile),
      isSecretStale: () => isSecretStale,
      isLast,
    });
  };

  /** What a process gets that is of `unit`, or of none of the units here. */
  const ask = async (
    socket: keyof typeof socketNames,
    { name = '', request = '', isOfUnit = true }: { name?: string; request?: string; isOfUnit?: boolean },
  ): Promise<Buffer> => {
    const child = spawn('perl', ['-e', client, pathOf(socket), name, request, ...(isOfUnit ? groups : [])], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const parts: Buffer[] = [];
    child.stdout.on('data', (part: Buffer) => parts.push(part));
    assert.deepEqual(await once(child, 'close'), [0, null]);
    return Buffer.concat(parts);
  };
  const credential = async (name: string, isOfUnit = true): Promise<Buffer> =>
    await ask('credentials', { name, isOfUnit });
  const refusal = (reason: RegExp) => (error: unknown) =>
    error instanceof Failure && error.code === 'refused' && reason.test(error.message);

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'broker-'));
    for (const group of groups) mkdirSync(group);
    furnish(root(), manifest(1));
    works(['seal', '--no-recovery', `--root=${root()}`]);
  });
  after(() => {
    for (const group of groups) rmdirSync(group);
    rmSync(folder, { recursive: true });
  });
  beforeEach(() => {
    apply(1);
    descriptors = new Map(
      (['credentials', 'stage'] as const).map((socket) => [socketNames[socket], listening(pathOf(socket))]),
    );
  });
  afterEach(async () => {
    broker.leave(0);
    await exited;
    for (const descriptor of descriptors.values()) libc.close(descriptor);
    for (const socket of ['credentials', 'stage'] as const) rmSync(pathOf(socket));
  });

  test('gives a unit its own secret, which opens under its name', async () => {
    await serveOpened();
    assert.deepEqual(opened(await credential(`ab/unit/${unit}/key`)), { name: 'key', value: shown('key') });
  });

  test('gives another process nothing, whatever name it takes', async () => {
    await serveOpened();
    assert.equal((await credential(`ab/unit/${unit}/key`, false)).length, 0);
    for (const name of [`ab/unit/other.service/other`, `ab/unit/${unit}/other`, `ab/unit/${unit}`, ''])
      assert.equal((await credential(name)).length, 0, name);
  });

  test('gives a unit what is staged for it, and says why it gives another nothing', async () => {
    await serveOpened();
    const [staged, ...more] = parseAnswer(await ask('stage', { request: unit }));
    assert.deepEqual(
      [staged?.unit, staged?.credential, Buffer.from(staged?.value ?? []).toString(), more],
      [unit, 'staged', shown('staged'), []],
    );
    const stolen = await ask('stage', { request: unit, isOfUnit: false });
    assert.throws(() => parseAnswer(stolen), refusal(/is not part of auxcred-broker-test-/));
    const unknown = await ask('stage', { request: 'other.service' });
    assert.throws(() => parseAnswer(unknown), refusal(/no staged credential is provisioned for other\.service/));
  });

  test('with seeds that stay closed gives nobody anything, and the reason to who reads it', async () => {
    serve({ closed: new Failure('pcr-mismatch', 'the machine did not boot as it did') });
    assert.equal((await credential(`ab/unit/${unit}/key`)).length, 0);
    const refused = await ask('stage', { request: unit });
    assert.throws(() => parseAnswer(refused), refusal(/^the machine did not boot as it did$/));
    assert.deepEqual(exits, []);
  });

  test('answers with what became active since it opened the seeds', async () => {
    await serveOpened();
    const first = opened(await credential(`ab/unit/${unit}/key`)).value;
    apply(2);
    const second = opened(await credential(`ab/unit/${unit}/key`)).value;
    assert.equal(second, shown('key'));
    assert.notEqual(second, first);
  });

  test('leaves when its seeds are no longer the active ones, and gives nothing until then', async () => {
    await serveOpened();
    works(['seal', '--replace', '--no-recovery', `--root=${root()}`]);
    works(['apply', `--root=${root()}`]);
    assert.equal((await credential(`ab/unit/${unit}/key`)).length, 0);
    await exited;
    assert.deepEqual(exits, [0]);
  });

  test('leaves when systemd has another host secret, and gives nothing that it could not open', async () => {
    await serveOpened();
    isSecretStale = true;
    try {
      assert.equal((await credential(`ab/unit/${unit}/key`)).length, 0);
      await exited;
      assert.deepEqual(exits, [0]);
    } finally {
      isSecretStale = false;
    }
  });

  test('leaves when nobody asks for a minute, unless no other broker could open the seeds', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    for (const isLast of [false, true]) {
      await serveOpened(isLast);
      context.mock.timers.tick(61_000);
      assert.deepEqual(exits, isLast ? [] : [0]);
    }
    isSecretStale = true;
    try {
      assert.equal((await credential(`ab/unit/${unit}/key`)).length, 0);
      assert.deepEqual(exits, [], 'not even if it can answer nobody');
    } finally {
      isSecretStale = false;
    }
    broker.leave(0);
    await exited;
  });

  test('leaves when who is connected has an answer, once, and who connects later waits for the next one', async () => {
    await serveOpened();
    const slow = connect({ path: pathOf('stage'), allowHalfOpen: true });
    await once(slow, 'connect');
    // Accepted in order: the slow one is open once this one has its answer.
    await ask('stage', { request: unit });
    broker.leave(3);
    broker.leave(4);
    const late = credential(`ab/unit/${unit}/key`);
    assert.deepEqual(exits, []);
    slow.end('other.service');
    const [answer] = await once(slow, 'data');
    assert.ok(Buffer.isBuffer(answer));
    assert.throws(() => parseAnswer(answer), refusal(/is not part of|no staged credential/));
    await exited;
    assert.deepEqual(exits, [3]);
    await serveOpened();
    assert.equal(opened(await late).value, shown('key'));
  });
});
