import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Sits between a program and a swtpm and sees every command. */
export interface TpmProxy {
  readonly device: string;
  /** The code of every command so far (TPM 2.0 part 2, table 12). */
  readonly commands: number[];
  /** Everything that crossed the bus, in both directions. */
  traffic(): Buffer;
  stop(): Promise<void>;
}

const path = (device: string): string => device.replace('swtpm:path=', '');

/**
 * @param to - the TPM's device; a function is asked at the first command of each connection, and is told its code
 * @param before - returns a command to run before the one that arrived, `lost` to drop that one, or undefined
 * @param within - the folder for its socket's folder
 * @param answer - changes the TPM's response before the client gets it
 */
export async function startTpmProxy(
  to: string | ((code: number) => string),
  before: (code: number) => Buffer | 'lost' | undefined = () => undefined,
  within = tmpdir(),
  answer: (code: number, response: Buffer) => Buffer = (_, response) => response,
): Promise<TpmProxy> {
  const folder = mkdtempSync(join(within, 'proxy-'));
  const socket = join(folder, 'tpm');
  const commands: number[] = [];
  const seen: Buffer[] = [];
  const device = (code: number): string => (typeof to === 'string' ? to : to(code));
  const upstreams = new Set<Socket>();
  const track = (upstream: Socket): Socket => {
    upstreams.add(upstream);
    upstream.on('close', () => upstreams.delete(upstream));
    return upstream;
  };
  const servers = [
    createServer(relay).listen(socket),
    createServer((client) => {
      const upstream = track(connect(`${path(device(0))}.ctrl`));
      client.pipe(upstream).pipe(client);
      for (const end of [client, upstream])
        end.on('error', () => {
          client.destroy();
          upstream.destroy();
        });
    }).listen(`${socket}.ctrl`),
  ];
  await Promise.all(servers.map(async (server) => await once(server, 'listening')));
  chmodSync(folder, 0o755);
  for (const name of [socket, `${socket}.ctrl`]) chmodSync(name, 0o666);

  function relay(client: Socket): void {
    let upstream: Socket | undefined;
    let swallow = 0;
    const opened = (code: number): Socket => {
      const socket = track(connect(path(device(code))));
      socket.on('error', () => {
        client.destroy();
      });
      socket.on('data', (response) => {
        seen.push(response);
        if (swallow > 0) swallow--;
        else client.write(answer(commands.at(-1) ?? 0, response));
      });
      return socket;
    };
    client.on('error', () => {
      upstream?.destroy();
    });
    client.on('close', () => {
      upstream?.end();
    });
    let pending = Buffer.alloc(0);
    client.on('data', (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      while (pending.length >= 10 && pending.length >= pending.readUInt32BE(2)) {
        const command = pending.subarray(0, pending.readUInt32BE(2));
        pending = pending.subarray(command.length);
        const code = command.readUInt32BE(6);
        commands.push(code);
        seen.push(Buffer.from(command));
        const extra = before(code);
        if (extra === 'lost') continue;
        const tpm = (upstream ??= opened(code));
        if (extra) {
          swallow++;
          // The TPM answers in order, so the next command can follow as soon as this one's answer is there.
          tpm.write(extra, () => {
            tpm.once('data', () => {
              tpm.write(command);
            });
          });
        } else {
          tpm.write(command);
        }
      }
    });
  }
  return {
    device: `swtpm:path=${socket}`,
    commands,
    traffic: () => Buffer.concat(seen),
    stop: async () => {
      for (const server of servers) server.close();
      // The TPM serves one client at a time, so the next one has to find these gone.
      await Promise.all(
        [...upstreams].map(async (upstream) => {
          upstream.destroy();
          await once(upstream, 'close');
        }),
      );
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** TPM2_Startup, the first command of every client that opens a TPM. */
const startup = 0x144;

/**
 * Sits in front of one TPM, and of `then` once the TPM is opened after so many commands with this code.
 */
export async function startSwappingProxy(
  first: string,
  then: string,
  { code, times }: { readonly code: number; readonly times: number },
): Promise<TpmProxy & { readonly hasSwapped: () => boolean }> {
  let seen = 0;
  let answering = first;
  const proxy = await startTpmProxy((command) => {
    if (command === startup && seen >= times) answering = then;
    if (command === code) seen++;
    return answering;
  });
  return { ...proxy, hasSwapped: () => answering === then };
}
