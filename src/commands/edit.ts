import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { nameIn, placeOf, withSeeds } from '../cli/chosen-folder.ts';
import { commit } from '../cli/kept-changes.ts';
import { sayNext } from '../cli/next-step.ts';
import { Options } from '../cli/options.ts';
import { Failure } from '../failure.ts';
import { nameText } from '../fixed/name.ts';
import { readIfPresent } from '../system/files.ts';
import { spawnProblem } from '../system/programs.ts';
import { say, warn } from '../terminal/say.ts';

const newline = 0x0a;

/** `auxcred edit NAME`: opens a fixed secret in $VISUAL or $EDITOR, in memory; creates it if it does not exist. */
export async function edit(argv: readonly string[]): Promise<number> {
  const options = new Options('edit', argv);
  const [operand = ''] = options.exactly('the name of a secret');
  const place = placeOf(options);
  const name = nameIn(place, operand);
  const changed = await withSeeds(place, options, (open) => {
    const { folder, seedOf, former } = open;
    const before = !folder.has(name) ? new Uint8Array(0) : folder.open(name, seedOf, former).value;
    const after = edited(before, name.path);
    try {
      if (after.length === 0)
        throw new Failure('usage', 'the secret is now empty, so nothing was changed', {
          hint: 'auxcred rm removes a secret',
        });
      if (Buffer.compare(before, after) === 0) return undefined;
      folder.write(name, after, open);
      return before.length === 0 ? 'Add' : 'Change';
    } finally {
      before.fill(0);
      after.fill(0);
    }
  });
  say(
    changed === undefined
      ? `${nameText(name)} is unchanged`
      : `${changed === 'Add' ? 'put' : 'replaced'} ${nameText(name)}`,
  );
  if (changed === undefined) return 0;
  commit(place, `${changed} ${nameText(name)}`);
  sayNext(place, name);
  return 0;
}

/** The edited text. The caller wipes it. */
function edited(before: Uint8Array, path: string): Uint8Array {
  const folder = mkdtempSync(join(memoryFolder(), 'auxcred-'));
  const file = join(folder, basename(path));
  try {
    writeFileSync(file, before, { mode: 0o600 });
    const editor = process.env['VISUAL'] ?? process.env['EDITOR'] ?? 'vi';
    const words = editor.split(' ').filter((word) => word !== '');
    const { status, error } = spawnSync(words[0] ?? 'vi', [...words.slice(1), ...withoutTraces(words[0] ?? ''), file], {
      stdio: 'inherit',
    });
    if (error)
      throw new Failure('system', `the editor ${editor} can't be run: ${spawnProblem(error)}`, {
        hint: 'EDITOR=nano auxcred edit ...',
      });
    if (status !== 0)
      throw new Failure('system', `the editor ended with status ${String(status)}, so nothing was changed`);
    const after = readFileSync(file);
    const value = Uint8Array.from(withoutAddedNewline(after, before));
    after.fill(0);
    return value;
  } finally {
    overwrite(file);
    rmSync(folder, { recursive: true });
  }
}

/** A view of a text without the newline that most editors add to a single line, or to a text that was not changed. */
function withoutAddedNewline(after: Uint8Array, before: Uint8Array): Uint8Array {
  if (after.at(-1) !== newline || before.at(-1) === newline) return after;
  const shorter = after.subarray(0, after.length - 1);
  return !shorter.includes(newline) || Buffer.compare(shorter, before) === 0 ? shorter : after;
}

/** Arguments that keep an editor from leaving copies in its history, undo files or swap file. */
const withoutTraces = (editor: string): string[] =>
  /^(?:n?vim|vi)(?:\.[a-z]+)?$/.test(basename(editor)) && usesVim(editor)
    ? ['-n', '-i', 'NONE', '-c', 'set noundofile nobackup nowritebackup']
    : [];

const usesVim = (editor: string): boolean =>
  /vim/i.test(spawnSync(editor, ['--version'], { encoding: 'utf8' }).stdout ?? '');

function overwrite(file: string): void {
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  if (size !== undefined) writeFileSync(file, randomBytes(size));
}

/** TMPFS_MAGIC and RAMFS_MAGIC (linux/magic.h). */
const inMemory = [0x01021994, 0x858458f6];

/** A folder in memory. @throws Failure `system` if there is none */
function memoryFolder(): string {
  const folder = [process.env['XDG_RUNTIME_DIR'], '/dev/shm', '/run'].find((candidate) => {
    try {
      // Under sudo, root must not edit in the runtime folder of the calling user.
      return (
        candidate !== undefined &&
        [0, process.geteuid?.()].includes(statSync(candidate).uid) &&
        inMemory.includes(statfsSync(candidate).type)
      );
    } catch {
      return false;
    }
  });
  if (folder === undefined)
    throw new Failure('system', 'there is no in-memory folder to edit in', {
      hint: 'mount a tmpfs on /dev/shm; auxcred put needs none',
    });
  const swaps = new TextDecoder()
    .decode(readIfPresent('/proc/swaps') ?? new Uint8Array(0))
    .split('\n')
    .slice(1)
    .filter((line) => line !== '' && !line.startsWith('/dev/zram'));
  if (swaps.length > 0)
    warn('this machine swaps to disk, so the edited text may end up there', 'use encrypted swap, or auxcred put');
  return folder;
}
