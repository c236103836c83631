/** The extensions of an X.509 certificate (RFC 5280), which Node does not show, and the names in them. */
import { type DerValue, derValuesIn } from '../der.ts';

/** An extension of a certificate. */
export interface Extension {
  readonly isCritical: boolean;
  readonly value: Uint8Array;
}

const tags = { boolean: 0x01, oid: 0x06, sequence: 0x30, extensions: 0xa3, directoryName: 0xa4 } as const;

/** An object identifier as text: `2.23.133.8.1` (X.690, section 8.19). */
function oidText(content: Uint8Array): string {
  const arcs: number[] = [];
  let arc = 0;
  for (const byte of content) {
    arc = arc * 128 + (byte & 0x7f);
    if (byte >= 0x80) continue;
    if (arcs.length === 0) {
      // The first two arcs share a number; the first one is at most 2.
      const first = Math.min(2, Math.floor(arc / 40));
      arcs.push(first, arc - 40 * first);
    } else arcs.push(arc);
    arc = 0;
  }
  return arcs.join('.');
}

/** The values inside a value; none if it is missing. */
const inside = (value: DerValue | undefined): DerValue[] => (value ? derValuesIn(value.content) : []);

/** The extensions of a certificate in DER, by object identifier. */
export function extensionsIn(der: Uint8Array): ReadonlyMap<string, Extension> {
  const [certificate] = derValuesIn(der);
  const [signed] = inside(certificate);
  const wrapped = inside(signed).find(({ tag }) => tag === tags.extensions);
  const [list] = inside(wrapped);
  return new Map(
    inside(list).flatMap(({ content }): [string, Extension][] => {
      const parts = derValuesIn(content);
      const [id, value] = [parts[0], parts.at(-1)];
      if (id?.tag !== tags.oid || !value) return [];
      const isCritical = parts.some(({ tag, content: [flag] }) => tag === tags.boolean && flag !== 0);
      return [[oidText(id.content), { isCritical, value: value.content }]];
    }),
  );
}

/** The attributes of the directory names in a SubjectAltName extension (RFC 5280, section 4.2.1.6), as UTF-8 text. */
export function namesIn({ value }: Extension): ReadonlyMap<string, string> {
  const [general] = derValuesIn(value);
  const names = inside(general)
    .filter(({ tag }) => tag === tags.directoryName)
    .flatMap(({ content }) => derValuesIn(content))
    .flatMap(({ content }) => derValuesIn(content))
    .flatMap(({ content }) => derValuesIn(content))
    .filter(({ tag }) => tag === tags.sequence);
  return new Map(
    names.flatMap(({ content }): [string, string][] => {
      const [id, text] = derValuesIn(content);
      return id?.tag === tags.oid && text ? [[oidText(id.content), new TextDecoder().decode(text.content)]] : [];
    }),
  );
}
