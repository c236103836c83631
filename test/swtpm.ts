import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface SwtpmOptions {
  /** Where its state and its socket are, an absolute path; a temporary one, removed in `stop`, if not given. */
  readonly folder?: string;
  /** What firmware measures first: SHA-256 digests in hexadecimal, by PCR. */
  readonly pcrs?: Readonly<Record<number, readonly string[]>>;
}

/** A software TPM 2.0 that serves one client at a time on a socket. */
export interface Swtpm {
  /** In systemd's notation. */
  readonly device: string;
  readonly folder: string;
  stop(): Promise<void>;
  /** Ends it without TPM2_Shutdown, as a power cut does, and starts it again with the same state. */
  powerCut(): Promise<void>;
  /** Runs one of tpm2-tools against it. @returns standard output; throws with its output if it fails */
  tool(name: string, ...args: string[]): string;
  /** Stops and continues it, so that it hangs. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void;
}

/** sizeof(sun_path) less the NUL and the `.ctrl` of the control socket. */
const longestSocketPath = 102;

/**
 * Starts a TPM with Startup(CLEAR) and the firmware's measurements done. Any user may connect who can reach the folder.
 */
export async function startSwtpm({ folder: given, pcrs = {} }: SwtpmOptions = {}): Promise<Swtpm> {
  const folder = given ?? mkdtempSync(join(tmpdir(), 'swtpm-'));
  const state = join(folder, 'state');
  const socket = join(folder, 'tpm');
  if (Buffer.byteLength(socket) > longestSocketPath) throw new Error(`${socket} is too long for a socket`);
  mkdirSync(state, { recursive: true });
  let child = await start(state, socket);
  const device = `swtpm:path=${socket}`;
  const tool = (name: string, ...args: string[]): string => {
    const { status, stdout, stderr, error } = spawnSync(name, args, {
      encoding: 'utf8',
      cwd: folder,
      env: { PATH: process.env['PATH'], TPM2TOOLS_TCTI: device },
      timeout: 30_000,
    });
    if (status !== 0) throw new Error(`${name} ${args.join(' ')}: ${error?.message ?? stderr}`);
    return stdout;
  };
  const measure = (): void => {
    const extensions = Object.entries(pcrs).flatMap(([pcr, digests]) =>
      digests.map((digest) => `${pcr}:sha256=${digest}`),
    );
    if (extensions.length > 0) tool('tpm2_pcrextend', ...extensions);
  };
  const end = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  const stop = async (): Promise<void> => {
    await end();
    if (given === undefined) rmSync(folder, { recursive: true, force: true });
  };
  try {
    measure();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    device,
    folder,
    tool,
    stop,
    powerCut: async () => {
      await end();
      child = await start(state, socket);
      measure();
    },
    signal: (name) => {
      child.kill(name);
    },
  };
}

async function start(state: string, socket: string): Promise<ReturnType<typeof spawn>> {
  for (const path of [socket, `${socket}.ctrl`]) rmSync(path, { force: true });
  // A pipe would fill up and block it while this process waits for programs.
  const said = openSync(`${socket}.log`, 'w');
  // It ends with this process even when that is killed: setpriv asks the kernel for it.
  const child = spawn(
    'setpriv',
    [
      '--pdeathsig',
      'KILL',
      'swtpm',
      'socket',
      '--tpm2',
      '--tpmstate',
      `dir=${state}`,
      '--server',
      `type=unixio,path=${socket}`,
      '--ctrl',
      `type=unixio,path=${socket}.ctrl`,
      '--flags',
      'not-need-init,startup-clear',
    ],
    { stdio: ['ignore', 'ignore', said] },
  );
  closeSync(said);
  for (const path of [socket, `${socket}.ctrl`]) {
    for (let waited = 0; !(await accepts(path)); waited += 5) {
      if (child.exitCode !== null || waited > 10_000) {
        child.kill('SIGKILL');
        throw new Error(`swtpm did not start: ${readFileSync(`${socket}.log`, 'utf8')}`);
      }
      await sleep(5);
    }
    chmodSync(path, 0o666);
  }
  return child;
}

/** A socket's file exists a moment before somebody listens on it. */
async function accepts(path: string): Promise<boolean> {
  const client = connect(path);
  try {
    await once(client, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    client.destroy();
  }
}
