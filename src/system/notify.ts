import { DatagramSocket } from './datagram.ts';

/**
 * Tells the service manager about a change of state, such as `READY=1` (sd_notify(3)). Does nothing outside of a
 * service.
 */
export function notify(state: string): void {
  const path = process.env['NOTIFY_SOCKET'];
  if (path === undefined || path === '') return;
  const socket = new DatagramSocket(path);
  socket.send(Buffer.from(state));
  socket.close();
}
