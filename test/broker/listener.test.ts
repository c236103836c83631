import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { Connection } from '../../src/broker/connection.ts';
import { Listener } from '../../src/broker/listener.ts';
import { bind } from '../../src/system/ffi.ts';

/** More than the kernel takes without a reader. */
const large = 4 << 20;

const libc = bind('libc.so.6', { socket: 'i:iii', bind: 'i:ipu', listen: 'i:ii', close: 'i:i' });
const [unixFamily, stream] = [1, 1];

let folder: string;
let path: string;
/** A listening socket, made as systemd makes it: this process accepts from it only through a listener. */
let descriptor: number;
let clients: Socket[];

beforeEach(() => {
  folder = mkdtempSync('/tmp/auxcred-listener-');
  path = join(folder, 'socket');
  clients = [];
  const address = Buffer.concat([Buffer.from([unixFamily, 0]), Buffer.from(`${path}\0`)]);
  descriptor = Number(libc.socket(unixFamily, stream, 0));
  assert.ok(descriptor > 0);
  assert.equal(libc.bind(descriptor, address, address.length), 0);
  assert.equal(libc.listen(descriptor, 4096), 0);
});

afterEach(() => {
  for (const client of clients) client.destroy();
  libc.close(descriptor);
  rmSync(folder, { recursive: true, force: true });
});

/** A client that reads only when told to. */
async function client(): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true }).pause();
  socket.on('error', () => undefined);
  clients.push(socket);
  await once(socket, 'connect');
  return socket;
}

/** Everything that a client gets before the connection ends or breaks. */
async function answerTo(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  await new Promise((resolve) => {
    socket.once('end', resolve).once('close', resolve).resume();
  });
  return Buffer.concat(parts);
}

const untilIdle = async (start: (idle: () => void) => Listener): Promise<Listener> =>
  await new Promise((resolve) => {
    const listener = start(() => {
      resolve(listener);
    });
  });

test('a connection is closed right after the answer, which can still be read', async () => {
  const waiting = await Promise.all(Array.from({ length: 5 }, client));
  const listener = await untilIdle(
    (idle) =>
      new Listener(descriptor, {
        idle,
        accept: (connection) => {
          connection.answer(Buffer.from('a secret'));
        },
      }),
  );
  assert.equal(listener.open, 0);
  for (const socket of waiting) assert.equal((await answerTo(socket)).toString(), 'a secret');
  listener.stop();
});

test('an unread answer is given up, and one that is read slowly arrives whole', async () => {
  const [, reader] = [await client(), await client()];
  const got = answerTo(reader);
  const answers: Buffer[] = [];
  const listener = await untilIdle(
    (idle) =>
      new Listener(descriptor, {
        idle,
        patience: 500,
        accept: (connection) => {
          answers.push(Buffer.alloc(large, 1));
          connection.answer(answers.at(-1) ?? Buffer.alloc(0));
        },
      }),
  );
  listener.stop();
  assert.equal((await got).length, large);
  assert.ok(
    answers.some((answer) => answer.every((byte) => byte === 0)),
    'the sent bytes are wiped',
  );
});

test('a client that asks nothing is given up', async () => {
  const silent = await client();
  const listener = await untilIdle(
    (idle) =>
      new Listener(descriptor, {
        idle,
        patience: 100,
        accept: (connection) => {
          connection.onRequest(10, () => assert.fail('it asked nothing'));
        },
      }),
  );
  listener.stop();
  assert.equal((await answerTo(silent)).length, 0);
});

test('a client that sends too long a request is disconnected', async () => {
  const [talker, asker] = [await client(), await client()];
  talker.end('x'.repeat(11));
  asker.end('x'.repeat(10));
  const listener = await untilIdle(
    (idle) =>
      new Listener(descriptor, {
        idle,
        accept: (connection) => {
          connection.onRequest(10, (request) => {
            connection.answer(request);
          });
        },
      }),
  );
  listener.stop();
  assert.equal((await answerTo(talker)).length, 0);
  assert.equal((await answerTo(asker)).length, 10);
});

test('clients beyond the limit wait in the kernel, and none is lost', async () => {
  const most = 8;
  const waiting = await Promise.all(Array.from({ length: 50 }, client));
  const accepted: Connection[] = [];
  const listener = new Listener(descriptor, {
    most,
    idle: () => undefined,
    accept: (connection) => {
      accepted.push(connection);
    },
  });
  let answered = 0;
  while (answered < waiting.length) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    assert.ok(listener.open <= most, String(listener.open));
    for (const connection of accepted.splice(0)) {
      connection.answer(Buffer.from('mine'));
      answered++;
    }
  }
  listener.stop();
  for (const socket of waiting) assert.equal((await answerTo(socket)).toString(), 'mine');
});

test('a client that connects after it stopped is answered by the next broker', async () => {
  const first = await untilIdle((idle) => {
    void client();
    return new Listener(descriptor, {
      idle,
      accept: (connection) => {
        connection.close();
      },
    });
  });
  first.stop();
  const late = await client();
  const next = await untilIdle(
    (idle) =>
      new Listener(descriptor, {
        idle,
        accept: (connection) => {
          connection.answer(Buffer.from('next'));
        },
      }),
  );
  next.stop();
  assert.equal((await answerTo(late)).toString(), 'next');
});
