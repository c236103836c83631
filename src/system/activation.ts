import { bind } from './ffi.ts';

/** The first descriptor that systemd passes (SD_LISTEN_FDS_START in sd-daemon.h). */
const firstDescriptor = 3;

/**
 * The listening sockets that systemd passed to this process, by the name its socket unit gave them
 * (sd_listen_fds_with_names(3)). Empty if the process was not socket-activated.
 */
export function activatedSockets(environment: NodeJS.ProcessEnv): Map<string, number> {
  if (Number(environment['LISTEN_PID']) !== process.pid) return new Map();
  const names = (environment['LISTEN_FDNAMES'] ?? '').split(':');
  return new Map(
    Array.from({ length: Number(environment['LISTEN_FDS']) || 0 }, (_, i) => [names[i] ?? '', firstDescriptor + i]),
  );
}

const libc = bind('libc.so.6', { dup: 'i:i' });

/**
 * Duplicates a descriptor, so that the original stays open when the copy is closed.
 * @throws Error if no descriptor is left
 */
export function duplicate(descriptor: number): number {
  const copy = Number(libc.dup(descriptor));
  if (copy < 0) throw new Error('no descriptor is left');
  return copy;
}
