import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { peerOf } from '../../src/system/peer.ts';
import { unitOfProcess } from '../../src/system/unit-name.ts';

const folder = mkdtempSync('/tmp/auxcred-peer-');
const path = join(folder, 'socket');
/**
 * Connects as systemd does, under a name; then this process ends, or a child keeps the connection while it ends, or it
 * waits until told to end.
 */
const client = `
use Socket;
my ($way, $path, $name) = @ARGV;
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
bind($s, pack_sockaddr_un("\\0$name")) or die;
connect($s, pack_sockaddr_un($path)) or die;
shutdown($s, 1);
if ($way eq 'leaves' && fork == 0) { close STDOUT; <STDIN>; exit 0 }
<STDIN> if $way eq 'stays';
`;

let server: Server;
before(async () => {
  server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(path);
  await once(server, 'listening');
});
after(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

/** A connection of a client that does `way`; unless it stays, it has ended by then. */
async function connected(
  way: 'stays' | 'ends' | 'leaves',
  name: string,
): Promise<{ socket: Socket; pid: number | undefined; end: () => void }> {
  const child = spawn('perl', ['-e', client, way, path, name], { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const socket = await new Promise<Socket>((resolve) => {
    server.once('connection', resolve);
  });
  if (way !== 'stays') await exited;
  return {
    socket,
    pid: child.pid,
    end: () => {
      child.stdin.end();
      socket.destroy();
    },
  };
}

for (const hasProcess of [true, false]) {
  const kernel = hasProcess ? 'with a descriptor of the peer' : 'without one';
  test(`a peer that waits is who the kernel says it is, ${kernel}`, async () => {
    const { socket, pid, end } = await connected('stays', 'ab/unit/a.service/key');
    assert.deepEqual(peerOf(socket, hasProcess), {
      name: 'ab/unit/a.service/key',
      pid,
      uid: process.getuid?.(),
      unit: unitOfProcess(readFileSync('/proc/self/cgroup', 'utf8')),
    });
    end();
  });

  test(`a peer that is gone is nobody: its number may be another's, ${kernel}`, async () => {
    const { socket, end } = await connected('ends', 'ab/unit/b.service/key');
    assert.throws(() => peerOf(socket, hasProcess), /is gone/);
    end();
  });
}

test("a connection that another process keeps does not count as its first holder's", async () => {
  const { socket, end } = await connected('leaves', 'ab/unit/c.service/key');
  assert.throws(() => peerOf(socket), /is gone/);
  end();
});
