import { existsSync, readFileSync } from 'node:fs';
import { hostKeyCredentials, type Openers } from '../seeds/open.ts';
import type { Paths } from '../system/paths.ts';
import { decryptCredential } from '../system/systemd-creds.ts';

/** What root opens the store with: the machine's own keys, and the named TPM. */
export function openersOf(paths: Paths, device: string | undefined): Openers {
  const keyAt = (path: string): string | undefined => (existsSync(path) ? path : undefined);
  const sealed = keyAt(paths.sealedHostKey);
  return {
    keys: {
      ssh: keyAt(paths.sshHostKey),
      age: keyAt(paths.ageHostKey),
      sealed:
        sealed === undefined
          ? undefined
          : async (tpm) =>
              await decryptCredential(paths.root, hostKeyCredentials.sealed, new Uint8Array(readFileSync(sealed)), tpm),
    },
    device: device ?? process.env['AUXCRED_TCTI'],
  };
}
