/**
 * The messages between `auxcred stage` and the broker on the stage socket. Unlike systemd's protocol, this one has
 * lengths, so that a cut-off answer is an error and never a short secret.
 *
 *     request:  the unit's name in UTF-8, to the end of the stream
 *     granted:  0x00, u16be count, then count times: LP(unit as declared) LP(credential id) u32be(length) value
 *     refused:  0x01, the reason in UTF-8, to the end of the stream
 */
import { concat, framed, u32be, utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';

/** A credential in the broker's answer. */
export interface StagedCredential {
  /** The declared unit: for an instance, this may be its template. */
  readonly unit: string;
  readonly credential: string;
  readonly value: Uint8Array;
}

const granted = 0;
const refused = 1;

/** Encodes an answer with credentials. The caller wipes it. */
export function encodeGrant(credentials: readonly StagedCredential[]): Uint8Array {
  const count = Uint8Array.of(credentials.length >> 8, credentials.length & 0xff);
  return concat(
    Uint8Array.of(granted),
    count,
    ...credentials.flatMap(({ unit, credential, value }) => [
      framed(unit),
      framed(credential),
      u32be(value.length),
      value,
    ]),
  );
}

/** Encodes a refusal. */
export const encodeRefusal = (reason: string): Uint8Array => concat(Uint8Array.of(refused), utf8(reason));

/**
 * Parses the broker's answer. The values are views of `answer`: wiping it wipes them.
 * @throws Failure `refused` with the broker's reason, or for an incomplete answer
 */
export function parseAnswer(answer: Uint8Array): StagedCredential[] {
  if (answer[0] === refused)
    throw new Failure('refused', new TextDecoder().decode(answer.subarray(1)), {
      hint: 'journalctl -u auxcred.service has the record',
    });
  const view = new DataView(answer.buffer, answer.byteOffset, answer.byteLength);
  try {
    if (view.getUint8(0) !== granted) throw new RangeError('unknown status');
    let offset = 3;
    const take = (length: number): Uint8Array => {
      if (offset + length > answer.length) throw new RangeError('cut off');
      offset += length;
      return answer.subarray(offset - length, offset);
    };
    const takeText = (): string => {
      const [high = 0, low = 0] = take(2);
      return new TextDecoder().decode(take(high * 256 + low));
    };
    const credentials = Array.from({ length: view.getUint16(1) }, () => {
      const unit = takeText();
      const credential = takeText();
      const lengthAt = offset;
      take(4);
      return { unit, credential, value: take(view.getUint32(lengthAt)) };
    });
    if (offset !== answer.length) throw new RangeError('trailing bytes');
    return credentials;
  } catch (error) {
    throw new Failure('refused', 'the broker closed the connection before its answer was complete', {
      hint: 'journalctl -u auxcred.service says why',
      cause: error,
    });
  }
}
