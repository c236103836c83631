/** systemd-creds(1): encrypts credentials to this machine. Values go in and come out by pipes only. */
import { spawn } from 'node:child_process';
import { Failure, messageOf } from '../failure.ts';
import type { CredsLock } from './creds-lock.ts';

/**
 * The encrypted credential, as its file holds it: base64.
 * @param root - `/`, or a system that is being installed, whose own program and key are used then
 * @param name - the credential's id, under which alone it decrypts
 * @throws Failure `system` with what systemd-creds said
 */
export async function encryptCredential(
  root: string,
  name: string,
  value: Uint8Array,
  { key, pcrs, device }: CredsLock,
): Promise<Uint8Array> {
  // Always said: without it systemd binds PCR 7 up to 257, and none from 258 on.
  const options = [
    `--with-key=${key}`,
    `--tpm2-pcrs=${pcrs.join('+')}`,
    ...(device === undefined ? [] : [`--tpm2-device=${device}`]),
  ];
  return await systemdCreds(root, ['encrypt', `--name=${name}`, ...options, '-', '-'], value);
}

/** The value of an encrypted credential; the caller wipes it. @throws Failure `system` with what systemd-creds said */
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

async function systemdCreds(root: string, args: readonly string[], input: Uint8Array): Promise<Uint8Array> {
  const [program, ...before]: [string, ...string[]] =
    root === '/' ? ['systemd-creds'] : ['chroot', root, 'systemd-creds'];
  return await new Promise((resolve, reject) => {
    const output: Buffer[] = [];
    const said: Buffer[] = [];
    const fail = (reason: string): void => {
      reject(
        new Failure('system', `systemd-creds ${args[0] ?? ''} failed: ${reason}`, {
          hint: 'systemd-creds setup makes the host key; systemd-creds has-tpm2 says what there is of a TPM',
        }),
      );
    };
    const child = spawn(program, [...before, ...args], { stdio: 'pipe' });
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => said.push(chunk));
    // It may have gone before it read all; its status says so.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
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
