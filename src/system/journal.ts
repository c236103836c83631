import { DatagramSocket } from './datagram.ts';

const journalSocket = '/run/systemd/journal/socket';
let socket: DatagramSocket | undefined;

/** The fields of a record, with names in upper case. */
export type JournalFields = Readonly<Record<string, string>> & { readonly MESSAGE: string };

/**
 * Writes one record to the journal in its native protocol (systemd docs/JOURNAL_NATIVE_PROTOCOL.md).
 * If the journal does not accept it, writes the message to standard error. Never blocks and never throws.
 * @returns whether the journal accepted it
 */
export function journal(fields: JournalFields): boolean {
  socket ??= new DatagramSocket(journalSocket);
  const record = { SYSLOG_IDENTIFIER: 'auxcred', ...fields };
  if (socket.send(Buffer.concat(Object.entries(record).map(([name, value]) => encodeField(name, value))))) return true;
  process.stderr.write(`${fields.MESSAGE}\n`);
  return false;
}

/** `NAME=value`; for a value with a newline, the name, the length in 8 bytes and the value. */
function encodeField(name: string, value: string): Buffer {
  if (!value.includes('\n')) return Buffer.from(`${name}=${value}\n`);
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n')]);
}
