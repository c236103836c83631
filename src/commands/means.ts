import { existsSync } from 'node:fs';
import type { Means } from '../store/open.ts';
import type { Paths } from '../system/paths.ts';

/** What root has to open the store with: the machine's own keys where they lie, and the TPM that was named. */
export function meansOf(paths: Paths, device: string | undefined): Means {
  const keyAt = (path: string): string | undefined => (existsSync(path) ? path : undefined);
  return { keys: { ssh: keyAt(paths.sshHostKey), age: keyAt(paths.ageHostKey) }, device: device ?? process.env['AUXCRED_TCTI'] };
}
