/** Encrypts credentials to this machine with systemd-creds(1). Values go through pipes only. */
import { utf8 } from '../bytes.ts';
import { Failure, messageOf } from '../failure.ts';
import type { CredsLock } from './creds-lock.ts';
import { memoryFile, wipeMemoryFile } from './memory-file.ts';
import { programs } from './programs.ts';

/**
 * Encrypts a credential. @returns the content of its file: base64
 * @param root - `/`, or an installation in progress, whose own program and key are then used
 * @param name - the credential's id, the only one under which it decrypts
 * @throws Failure `system` with the message of systemd-creds
 */
export async function encryptCredential(
  root: string,
  name: string,
  value: Uint8Array,
  { key, pcrs, device, signed }: CredsLock,
): Promise<Uint8Array> {
  // Always given: by default, systemd up to 257 binds PCR 7, and from 258 on none.
  const options = [
    `--with-key=${key}${signed ? '-with-public-key' : ''}`,
    `--tpm2-pcrs=${pcrs.join('+')}`,
    ...(device === undefined ? [] : [`--tpm2-device=${device}`]),
  ];
  const encrypt = async (more: readonly string[], descriptor?: number): Promise<Uint8Array> =>
    await systemdCreds(root, ['encrypt', `--name=${name}`, ...options, ...more, '-', '-'], value, descriptor);
  if (!signed) return await encrypt([]);
  // It reads the key from a file alone.
  const publicKey = memoryFile(utf8(signed.pem));
  try {
    return await encrypt(
      ['--tpm2-public-key=/proc/self/fd/3', `--tpm2-public-key-pcrs=${signed.pcrs.join('+')}`],
      publicKey,
    );
  } finally {
    wipeMemoryFile(publicKey);
  }
}

/** Decrypts a credential. The caller wipes the value. @throws Failure `system` with the message of systemd-creds */
export async function decryptCredential(
  root: string,
  name: string,
  encrypted: Uint8Array,
  device: string | undefined,
): Promise<Uint8Array> {
  return await systemdCreds(
    root,
    ['decrypt', `--name=${name}`, ...(device === undefined ? [] : [`--tpm2-device=${device}`]), '-', '-'],
    encrypted,
  );
}

/** Runs systemd-creds with `input`, and returns its output. @param descriptor - becomes the program's descriptor 3 */
async function systemdCreds(
  root: string,
  args: readonly string[],
  input: Uint8Array,
  descriptor?: number,
): Promise<Uint8Array> {
  const [program, ...before]: [string, ...string[]] =
    root === '/' ? ['systemd-creds'] : ['chroot', root, 'systemd-creds'];
  return await new Promise((resolve, reject) => {
    const output: Buffer[] = [];
    const said: Buffer[] = [];
    const fail = (reason: string): void => {
      reject(
        new Failure('system', `systemd-creds ${args[0] ?? ''} failed: ${reason}`, {
          hint: 'systemd-creds setup makes the host key; systemd-creds has-tpm2 says whether there is a TPM',
        }),
      );
    };
    const child = programs().spawn(program, [...before, ...args], {
      stdio: ['pipe', 'pipe', 'pipe', ...(descriptor === undefined ? [] : [descriptor])],
    });
    child.stdout?.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => said.push(chunk));
    // It may exit before it reads everything; its status tells why.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
    child.on('error', (error) => {
      fail(messageOf(error));
    });
    child.on('close', (status, signal) => {
      if (status === 0) resolve(Buffer.concat(output));
      else
        fail(
          Buffer.concat(said).toString('utf8').trim().replaceAll('\n', '; ') || signal || `status ${String(status)}`,
        );
      for (const chunk of output) chunk.fill(0);
    });
  });
}
