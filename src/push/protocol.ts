/**
 * The protocol of `auxcred push` and `auxcred receive` over one connection: the target's offer, the operator's request
 * followed by its files' bytes, the target's result. Each of the three is one line of canonical JSON, which both ends
 * parse as strictly as a file.
 */

import { type Challenge, challengeIn, challengeJson } from '../attestation/messages.ts';
import { hex, utf8 } from '../bytes.ts';
import { scopeNamePattern } from '../derive/realm.ts';
import { Failure, failureCodes } from '../failure.ts';
import { largestFile as largestFixed } from '../fixed/file.ts';
import { type FixedName, nameText, pathProblem, splitName } from '../fixed/name.ts';
import { type UnitAction, unitActions } from '../manifest/declaration.ts';
import type { Pin } from '../seeds/pins.ts';
import { canonicalJson, Json, valuesIn } from '../system/json.ts';
import { printable } from '../system/printable.ts';
import { parseDevice } from '../tpm2/tpm.ts';

const version = 1;

/** Maximum size of the line of an offer or a request, in bytes: enough for 50,000 fixed files. */
export const longestLine = 8 << 20;
/** Maximum size of the line of a result, in bytes. */
export const longestResult = 1 << 20;
/** Maximum number of JSON values in a line: parsed, `[[],[],` takes many times its bytes. */
const mostValues = 10 * 50_000;
/** Maximum number of scopes of a host: the operator derives a seed for each. */
const mostScopes = 1000;
/** Maximum size of a seeds.age, of a manifest file, and of all files of a request together, in bytes. */
const largestSeeds = 1 << 20;
const largestManifest = 1 << 20;
const largestRequest = 512 << 20;

const hint = 'both machines need the same version of auxcred, and the shell there must not print anything of its own';

/** A file on the target. */
export interface OfferedFile {
  /** SHA-256, in hexadecimal. */
  readonly digest: string;
  /** Whether a push brought it there. */
  readonly pushed: boolean;
}

export interface OfferedFixed extends OfferedFile {
  /** 0 for a damaged file. */
  readonly sequence: number;
}

/** A target's description of itself, before it is sent anything. No seed is opened for it. */
export interface Offer {
  /** The ssh-ed25519 host key's public half, 32 bytes; undefined without one. */
  readonly sshHostKey: Uint8Array | undefined;
  /** The scopes that are sealed there; empty if none is. */
  readonly pins: ReadonlyMap<string, Pin>;
  /** By name: `host/web1/wifi`. */
  readonly fixed: ReadonlyMap<string, OfferedFixed>;
  /** The files in its /etc/auxcred/secrets.d. */
  readonly manifest: ReadonlyMap<string, OfferedFile>;
  /** Whether an earlier push was interrupted. */
  readonly unfinished: boolean;
  /** Whether it heeds {@link AnnouncedSeeds.keepRecipients}: version 0.1.0 always keeps them. */
  readonly dropsRecipients: boolean;
}

/** A file whose bytes follow the request. */
export interface Announced {
  readonly name: string;
  /** Bytes. */
  readonly length: number;
}

export interface AnnouncedSeeds {
  /** Bytes of an age file that only the target opens. */
  readonly length: number;
  /** Whether the target keeps its present sealing, whatever the age file says. */
  readonly keepSealing: boolean;
  /**
   * Whether a target that keeps its sealing also keeps its recovery recipients if the age file names none. Undefined of
   * an operator with version 0.1.0, who can't say: it does.
   */
  readonly keepRecipients: boolean | undefined;
  /** The TPM that the age file is sealed to, as the host is enrolled with it; undefined for the default one. */
  readonly device: string | undefined;
  /** Key ids (16 bytes) by scope of the operator's own earlier seeds, which it intends to replace. */
  readonly replaces: ReadonlyMap<string, Uint8Array>;
}

/**
 * The purpose of a request: to be carried out, to be judged only, or to be judged without the seeds that it would
 * bring.
 */
export const purposes = ['receive', 'judge', 'judge-without-seeds'] as const;
export type Purpose = (typeof purposes)[number];

/** What should change. The files follow in the order: seeds, fixed, manifest. */
export interface Request {
  readonly purpose: Purpose;
  readonly seeds: AnnouncedSeeds | undefined;
  readonly fixed: readonly Announced[];
  readonly removeFixed: readonly string[];
  readonly manifest: readonly Announced[];
  readonly removeManifest: readonly string[];
  /** Whether to replace seeds of another vault and files that were made by hand. */
  readonly replace: boolean;
  readonly acceptOlder: boolean;
  /** Whether the target waits for the units that it restarts, and reports those that do not run. */
  readonly wait: boolean;
}

/** The files of a request, by their names. */
export interface Arrived {
  /** An age file. */
  readonly seeds: Uint8Array | undefined;
  readonly fixed: ReadonlyMap<string, Uint8Array>;
  readonly manifest: ReadonlyMap<string, Uint8Array>;
}

/** What the target did, or would do, with a running unit. */
export interface UnitDone {
  readonly unit: string;
  readonly action: UnitAction;
}

export interface Result {
  readonly units: readonly UnitDone[];
  /** Set if files were written, and become active at the next boot: the seeds are locked until then. */
  readonly atNextBoot?: true;
  /** Undefined if all went well. */
  readonly failure: Failure | undefined;
}

/** Matches file names of a manifest that can be sent. */
const manifestName = /^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,199}\.(?:toml|json)$/;
/** Whether a push can bring a file of this name. */
export const isManifestName = (name: string): boolean => manifestName.test(name);

const line = (content: Readonly<Record<string, unknown>>): Uint8Array =>
  utf8(`${canonicalJson({ protocol: version, ...content })}\n`);

/** The offer's line. */
export function encodeOffer({ sshHostKey, pins, fixed, manifest, unfinished, dropsRecipients }: Offer): Uint8Array {
  return line({
    ...(sshHostKey && { sshHostKey: hex(sshHostKey) }),
    fixed: Object.fromEntries(fixed),
    manifest: Object.fromEntries(manifest),
    unfinished,
    dropsRecipients,
    pins: Object.fromEntries([...pins].map(([name, { epoch, keyId }]) => [name, { epoch, keyId: hex(keyId) }])),
  });
}

/** @throws Failure `malformed` */
export function parseOffer(bytes: Uint8Array, host: string): Offer {
  const json = parsedMessage(bytes, `what ${host} offers`);
  const pins = json.at('pins');
  if (pins.entries().length > mostScopes) throw pins.unexpected(`at most ${String(mostScopes)} scopes`);
  return {
    sshHostKey: json.at('sshHostKey').optional((item) => digits(item, 64)),
    pins: new Map(
      pins
        .entries()
        .map(([name, pin]) => [
          checkedScope(pin, name),
          { epoch: pin.at('epoch').whole(1, 0xffffffff), keyId: digits(pin.at('keyId'), 32) },
        ]),
    ),
    fixed: new Map(
      json
        .at('fixed')
        .entries()
        .map(([name, file]) => [
          checkedFixed(file, name),
          { ...offeredFile(file), sequence: file.at('sequence').whole(0, Number.MAX_SAFE_INTEGER) },
        ]),
    ),
    manifest: new Map(
      json
        .at('manifest')
        .entries()
        .map(([name, file]) => [checkedManifest(file, name), offeredFile(file)]),
    ),
    unfinished: json.at('unfinished').flag(),
    dropsRecipients: json.at('dropsRecipients').optional((item) => item.flag()) ?? false,
  };
}

const offeredFile = (file: Json): OfferedFile => ({
  digest: hex(digits(file.at('digest'), 64)),
  pushed: file.at('pushed').flag(),
});

/** @param request - undefined if there is nothing to do */
export function encodeRequest(request: Request | undefined): Uint8Array {
  if (request === undefined) return line({ do: 'nothing' });
  const { purpose, seeds, ...rest } = request;
  const replaces = Object.fromEntries([...(seeds?.replaces ?? [])].map(([name, id]) => [name, hex(id)]));
  return line({ ...rest, do: purpose, ...(seeds === undefined ? {} : { seeds: { ...seeds, replaces } }) });
}

/** A question about the host's TPM, ahead of the request: for its statement, or for its answer to a challenge. */
export interface Question {
  /** The device that the host is enrolled with; undefined for the default one. */
  readonly device: string | undefined;
  readonly challenge: Challenge | undefined;
}

/** The question's line. */
export const encodeQuestion = ({ device, challenge }: Question): Uint8Array =>
  line({ do: challenge ? 'answer' : 'state', device, challenge: challenge && challengeJson(challenge) });

const deviceIn = (item: Json): string => parseDevice(item.text());

/** Undefined if the line is none. @throws Failure `malformed` */
export function parseQuestion(bytes: Uint8Array): Question | undefined {
  const json = parsedMessage(bytes, "the operator's request");
  const asked = json.at('do').text();
  if (asked !== 'state' && asked !== 'answer') return undefined;
  return {
    device: json.at('device').optional(deviceIn),
    challenge: asked === 'answer' ? challengeIn(json.at('challenge')) : undefined,
  };
}

/**
 * The reply to a question: a message of an attestation.
 * @throws Failure as the host reports it, if it answers with a result
 */
export function replyIn(bytes: Uint8Array, host: string): Uint8Array {
  const json = boundedJson(bytes, `what ${host} answers`);
  if (json.at('attestation').optional(() => true) === true) return bytes;
  const { failure } = parseResult(bytes, host);
  throw failure ?? new Failure('malformed', `${host} answers a question with a result`, { hint });
}

/** Undefined if there is nothing to do. @throws Failure `malformed` */
export function parseRequest(bytes: Uint8Array): Request | undefined {
  const json = parsedMessage(bytes, "the operator's request");
  const purpose = json.at('do').oneOf(['nothing', ...purposes]);
  if (purpose === 'nothing') return undefined;
  const request: Request = {
    purpose,
    seeds: json.at('seeds').optional((seeds) => ({
      length: seeds.at('length').whole(1, largestSeeds),
      keepSealing: seeds.at('keepSealing').flag(),
      keepRecipients: seeds.at('keepRecipients').optional((item) => item.flag()),
      device: seeds.at('device').optional(deviceIn),
      replaces: new Map(
        seeds
          .at('replaces')
          .entries()
          .map(([name, item]) => [checkedScope(item, name), digits(item, 32)]),
      ),
    })),
    fixed: json
      .at('fixed')
      .list()
      .map((file) => ({
        name: checkedFixed(file.at('name'), file.at('name').text()),
        length: file.at('length').whole(1, largestFixed),
      })),
    removeFixed: json
      .at('removeFixed')
      .list()
      .map((name) => checkedFixed(name, name.text())),
    manifest: json
      .at('manifest')
      .list()
      .map((file) => ({
        name: checkedManifest(file.at('name'), file.at('name').text()),
        length: file.at('length').whole(0, largestManifest),
      })),
    removeManifest: json
      .at('removeManifest')
      .list()
      .map((name) => checkedManifest(name, name.text())),
    replace: json.at('replace').flag(),
    acceptOlder: json.at('acceptOlder').flag(),
    wait: json.at('wait').flag(),
  };
  for (const [key, names] of [
    ['fixed', [...request.fixed.map(({ name }) => name), ...request.removeFixed]],
    ['manifest', [...request.manifest.map(({ name }) => name), ...request.removeManifest]],
  ] as const) {
    if (new Set(names).size !== names.length) throw json.at(key).unexpected('a list of names that are there once');
  }
  if ([...request.fixed, ...request.manifest].reduce((sum, { length }) => sum + length, 0) > largestRequest)
    throw json.unexpected(`at most ${String(largestRequest)} bytes`);
  return request;
}

/** The result's line. */
export const encodeResult = ({ units, failure, atNextBoot }: Result): Uint8Array =>
  line({
    units,
    ...(atNextBoot && { atNextBoot }),
    ...(failure === undefined
      ? {}
      : {
          failure: {
            code: failure.code,
            message: failure.message,
            ...(failure.hint === undefined ? {} : { hint: failure.hint }),
          },
        }),
  });

/** @throws Failure `malformed` */
export function parseResult(bytes: Uint8Array, host: string): Result {
  const json = parsedMessage(bytes, `what ${host} answers`);
  const units = json
    .at('units')
    .list()
    .map((item) => ({ unit: printable(item.at('unit').text()), action: item.at('action').oneOf(unitActions) }));
  const failure = json.at('failure').optional((item) => {
    const way = item.at('hint').optional((text) => printable(text.text()));
    return new Failure(
      item.at('code').oneOf(failureCodes),
      printable(item.at('message').text()),
      way === undefined ? {} : { hint: way },
    );
  });
  const atNextBoot = json.at('atNextBoot').optional((item) => item.flag());
  return { units, failure, ...(atNextBoot === true && { atNextBoot }) };
}

function boundedJson(bytes: Uint8Array, what: string): Json {
  if (valuesIn(bytes) > mostValues)
    throw new Failure('malformed', `${what} has more than ${String(mostValues)} values`, { hint });
  return Json.parse(bytes, what, hint);
}

function parsedMessage(bytes: Uint8Array, what: string): Json {
  const json = boundedJson(bytes, what);
  try {
    json.at('protocol').whole(version, version);
  } catch (error) {
    throw new Failure('malformed', `${what} is not in version ${String(version)} of the protocol`, {
      hint,
      cause: error,
    });
  }
  return json;
}

function digits(item: Json, length: number): Uint8Array {
  const text = item.text();
  if (text.length !== length || !/^[0-9a-f]*$/.test(text))
    throw item.unexpected(`${String(length)} hexadecimal digits`);
  return new Uint8Array(Buffer.from(text, 'hex'));
}

function checkedScope(item: Json, name: string): string {
  const [kind, rest = '', ...more] = name.split('/');
  if ((kind !== 'host' && kind !== 'group') || more.length > 0 || !scopeNamePattern.test(rest))
    throw item.unexpected('named by a scope');
  return name;
}

function checkedFixed(item: Json, text: string): string {
  const name: FixedName | undefined = splitName(text);
  if (!name || pathProblem(name.path) !== undefined) throw item.unexpected('named by a fixed secret');
  return nameText(name);
}

function checkedManifest(item: Json, text: string): string {
  if (!isManifestName(text)) throw item.unexpected('named by a manifest file');
  return text;
}
