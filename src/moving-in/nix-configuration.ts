/** What a NixOS configuration says of its secrets: `nix eval --json` of `sops.secrets` or `age.secrets`. */
import { Failure } from '../failure.ts';
import { Json } from '../system/json.ts';
import { isService } from '../system/unit-name.ts';
import type { FilePlacement, Use } from './findings.ts';

/** One entry of `sops.secrets` or `age.secrets`. */
export interface NixSecret {
  readonly name: string;
  readonly file: string;
  /** The key in a file of sops; empty for the whole file. */
  readonly key: string;
  /** The format of a file of sops; undefined to go by its name. */
  readonly format: string | undefined;
  readonly use: Use;
}

/** Where the modules put a file unless it has another path. */
const usualFolders = /^\/run\/(?:secrets|secrets-for-users|agenix)\//;

/**
 * Reads the secrets of a configuration.
 * @param fileKey - `sopsFile` of sops-nix, `file` of agenix
 * @throws Failure `malformed`
 */
export function nixSecrets(text: string, from: string, fileKey: 'sopsFile' | 'file'): NixSecret[] {
  const option = fileKey === 'file' ? 'age' : 'sops';
  const hint = `nix eval --json .#nixosConfigurations.HOST.config.${option}.secrets`;
  const entries = Json.parse(Buffer.from(text), from, hint).entries();
  if (entries.length === 0) throw new Failure('not-found', `${from} declares no secret`, { hint });
  return entries.map(([name, entry]) => {
    const optional = (key: string): string | undefined => entry.at(key).optional((item) => item.text());
    return {
      name,
      file: entry.at(fileKey).text(),
      key: optional('key') ?? name,
      format: optional('format'),
      use: useOf(entry),
    };
  });
}

function useOf(entry: Json): Use {
  const units = (key: string): string[] =>
    (entry.at(key).optional((item) => item.list()) ?? []).map((unit) => unit.text()).filter(isService);
  const [restarted, reloaded] = [units('restartUnits'), units('reloadUnits')];
  return {
    units: [...new Set([...restarted, ...reloaded])],
    ...(restarted.length === 0 && reloaded.length > 0 ? { change: 'reload' } : {}),
    file: placementOf(entry),
  };
}

/** The keys that differ from the defaults, which are the same here as there: root, root, 0400. */
function placementOf(entry: Json): Partial<FilePlacement> {
  const text = (key: string): string | undefined =>
    entry.at(key).optional((item) => (item.isText() ? item.text() : undefined));
  const [owner, group, mode, path] = [text('owner'), text('group'), text('mode'), text('path')];
  const isEarly = entry.at('neededForUsers').optional((item) => item.flag()) ?? false;
  return {
    ...(owner === undefined || owner === 'root' || owner === '0' ? {} : { owner }),
    ...(group === undefined || group === 'root' || group === '0' ? {} : { group }),
    ...(mode === undefined || mode === '0400' ? {} : { mode }),
    ...(path === undefined || usualFolders.test(path) ? {} : { link: path }),
    ...(isEarly ? { neededFor: 'users' } : {}),
  };
}
