import { utf8 } from '../bytes.ts';
import { Failure } from '../failure.ts';
import { Json } from '../system/json.ts';
import type { ProgramSettings } from '../vault/settings.ts';
import { linesOf, nothingGiven, runVault } from './program.ts';
import type { CopyPair, OtherVault, VaultRequest } from './protocol.ts';

const version = 1;

/**
 * A program that speaks the vault protocol: the verb is its argument, and the request is JSON on its standard input.
 */
export class ProtocolVault implements OtherVault {
  readonly #name: string;
  readonly #settings: ProgramSettings;

  constructor(name: string, settings: ProgramSettings) {
    this.#name = name;
    this.#settings = settings;
  }

  get(request: VaultRequest): Uint8Array {
    const value = this.#run('get', request.name, { ...request });
    if (value.length === 0) throw nothingGiven(this.#name, request.name);
    return value;
  }

  list(): string[] {
    return linesOf(this.#run('list', '', {}));
  }

  fingerprint(request: VaultRequest): string | undefined {
    return linesOf(this.#run('fingerprint', request.name, { ...request }))[0];
  }

  copy(host: string, target: string): CopyPair[] {
    return pairsOf(this.#name, this.#run('copy', `the files of ${host}`, { host, target }));
  }

  #run(verb: string, asked: string, request: Readonly<Record<string, unknown>>): Uint8Array {
    const { program, timeout, folder } = this.#settings;
    return runVault({
      vault: this.#name,
      asked,
      command: [program, verb],
      folder,
      timeout,
      input: utf8(`${JSON.stringify({ version, verb, ...request })}\n`),
      protocol: true,
      isList: verb !== 'get',
    });
  }
}

/**
 * Parses the output of `copy`: empty if it copied everything itself, else the pairs to copy.
 * @throws Failure `vault`
 */
export function pairsOf(vault: string, output: Uint8Array): CopyPair[] {
  if (output.every((byte) => byte === 0x0a || byte === 0x20)) return [];
  try {
    return Json.parse(
      output,
      `what the vault ${vault} answered to copy`,
      'nothing, or {"pairs": [{"source": "...", "destination": "..."}]}',
    )
      .at('pairs')
      .list()
      .map((pair) => ({ source: pair.at('source').text(), destination: pair.at('destination').text() }));
  } catch (error) {
    if (error instanceof Failure)
      throw new Failure('vault', error.message, {
        ...(error.hint === undefined ? {} : { hint: error.hint }),
        cause: error,
      });
    throw error;
  }
}
