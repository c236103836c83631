import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { manual, type VerbEntry, verbNames } from '../../src/cli/manual.ts';
import { isShort } from '../../src/cli/option-text.ts';
import { program, scratch, succeed } from './built.ts';

/** What each shell offers when TAB is pressed at the end of a line, with the program's real names. */
describe('completion', () => {
  const built = scratch();
  const dist = join(built.path, 'dist');
  const vault = join(built.path, 'vault');
  const environment = {
    PATH: `${join(built.path, 'bin')}:/usr/bin:/bin`,
    HOME: built.path,
    XDG_DATA_HOME: join(built.path, 'data'),
    AUXCRED_VAULT: vault,
    TERM: 'dumb',
    LC_ALL: 'C.UTF-8',
  };

  before(() => {
    succeed(process.execPath, program('bundle'), `--dist=${dist}`);
    mkdirSync(join(built.path, 'bin'));
    // Debian's Node may be older than the one that runs the tests.
    writeFileSync(
      join(built.path, 'bin/auxcred'),
      `#!/bin/sh\nexec ${process.execPath} ${resolve(dist, 'auxcred.cjs')} "$@"\n`,
    );
    chmodSync(join(built.path, 'bin/auxcred'), 0o755);
    const auxcred = (input: string, ...args: string[]): void => {
      const { status, stderr } = spawnSync(join(built.path, 'bin/auxcred'), args, {
        encoding: 'utf8',
        input,
        env: environment,
      });
      assert.equal(status, 0, stderr);
    };
    writeFileSync(join(built.path, 'passphrase'), 'x\n');
    auxcred('', 'init', `--passphrase-file=${join(built.path, 'passphrase')}`);
    succeed('age-keygen', '-o', join(built.path, 'key'));
    const recipient = /age1\w+/.exec(readFileSync(join(built.path, 'key'), 'utf8'))?.[0] ?? '';
    auxcred('', 'init', `--recipient=${recipient}`, `--vault=${join(built.path, 'other')}`);
    for (const folder of [vault, join(built.path, 'other')]) {
      writeFileSync(
        join(folder, 'vault.toml'),
        '[host.web1]\ngroups = ["db"]\n[host.web2]\n[vault.bao]\nget = ["bao", "{name}"]\n',
      );
      mkdirSync(join(folder, 'hosts/web1'), { recursive: true });
      writeFileSync(
        join(folder, 'hosts/web1/web.toml'),
        '[secret.session-key]\nkind = "hex"\nunits = ["web.service"]\n',
      );
    }
    for (const name of ['host/web1/wifi', 'group/db/token', 'host/web1/odd $(touch pwned) name'])
      auxcred('secret', 'put', name, `--vault=${join(built.path, 'other')}`, `--identity=${join(built.path, 'key')}`);
    mkdirSync(join(built.path, 'files/folder'), { recursive: true });
    writeFileSync(join(built.path, 'files/file'), '');
    mkdirSync(join(built.path, 'zsh'));
    symlinkSync(resolve('examples'), join(built.path, 'examples'));
    symlinkSync(join(dist, 'completion/_auxcred'), join(built.path, 'zsh/_auxcred'));
  });
  after(() => {
    built.remove();
  });

  const shell = (...words: string[]): string => {
    const [name = '', ...args] = words;
    const { stdout, stderr } = spawnSync(name, args, {
      encoding: 'utf8',
      env: environment,
      cwd: built.path,
      timeout: 60_000,
    });
    assert.equal(stderr, '');
    return stdout;
  };

  /** The replacements of the last word of each line, or of the part after its equals sign, from one bash. */
  const bashAll = (lines: readonly (readonly string[])[]): string[][] =>
    shell(
      'bash',
      '--norc',
      '--noprofile',
      '-c',
      `
    . /usr/share/bash-completion/bash_completion
    . ${dist}/completion/auxcred
    compopt() { :; }
    while (( $# )); do
      COMP_WORDS=(auxcred "\${@:2:$1}"); COMP_CWORD=$1; COMP_LINE="\${COMP_WORDS[*]}"; COMP_POINT=\${#COMP_LINE}
      shift $(($1 + 1)); COMPREPLY=()
      _auxcred auxcred; printf '%s\\n' "\${COMPREPLY[@]}" =
    done`,
      'bash',
      ...lines.flatMap((words) => [String(words.length), ...words]),
    )
      .split(/^=\n/m)
      .map((text) => text.split('\n').filter((line) => line !== ''));
  const bash = (...words: string[]): string[] => bashAll([words])[0] ?? [];

  const fish = (...words: string[]): string[] =>
    shell(
      'fish',
      '--no-config',
      '-c',
      `source ${dist}/completion/auxcred.fish; complete -C "auxcred ${words.join(' ')}"`,
    )
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split('\t')[0] ?? '');

  /** The line after TAB, in a real terminal. */
  const zsh = (...words: string[]): string => {
    writeFileSync(
      join(built.path, 'session.zsh'),
      `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'fpath=(${join(built.path, 'zsh')} $fpath); autoload -Uz compinit; compinit -u -d ${join(built.path, 'dump')}; cd ${built.path}'
zpty -w shell 'show() { print -r -- "$BUFFER" > line; BUFFER=exit; zle accept-line }; zle -N show; bindkey "^X" show; bindkey "^I" complete-word; PS1=ready'
zpty -r shell seen '*ready*ready*'
zpty -n -w shell ${JSON.stringify(`auxcred ${words.join(' ')}`)}$'\\t'$'\\x18'
for i in {1..200}; do [[ -s line ]] && break; sleep 0.05; done
cat line; rm -f line
zpty -d shell
`,
    );
    return shell('zsh', '-f', join(built.path, 'session.zsh')).replace(/\n$/, '');
  };

  test('bash offers verbs, options, values, names, hosts and files', () => {
    assert.deepEqual(bash('re'), ['reseal', 'rewrap', 'rekey']);
    assert.deepEqual(bash('seal', '--with-key=t'), ['tpm2', 'tpm2+host']);
    assert.deepEqual(bash('seal', '--w'), ['--with-key=']);
    assert.deepEqual(bash('generate', '--kind=wire'), ['wireguard-psk', 'wireguard']);
    assert.deepEqual(bash('scopes', 'w'), ['web1', 'web2']);
    assert.deepEqual(bash('get', '--host=web1', 'se'), ['session-key']);
    assert.deepEqual(bash('get', '--host=web'), ['web1', 'web2']);
    assert.deepEqual(bash('rm', `--vault=${join(built.path, 'other')}`, 'group'), ['group/db/token']);
    assert.deepEqual(bash('put', '--file=files/fi'), ['files/file']);
    assert.deepEqual(bash('seal', '--root=files/f'), ['files/folder']);
    assert.deepEqual(bash('vault', 'g'), ['get']);
    assert.deepEqual(bash('vault', 'get', 'b'), ['bao']);
    assert.deepEqual(bash('gokey', '-t', 'x'), ['x25519']);
    assert.deepEqual(bash('audit', '-n', ''), []);
    assert.deepEqual(bash('example', 'valk'), ['valkey']);
    assert.deepEqual(bash('names', 'ex'), ['examples']);
    assert.deepEqual(bash('help', 'un'), ['unseal']);
    assert.deepEqual(bash('stage', 'x'), []);
    assert.deepEqual(
      bash('rm', `--vault=${join(built.path, 'other')}`, 'host/web1/o'),
      ['host/web1/odd\\ \\$\\(touch\\ pwned\\)\\ name'],
      'a name is never run',
    );
    const verbs = verbNames.filter((verb) => verb !== 'gokey');
    const offered = bashAll(verbs.map((verb) => [verb, '--']));
    for (const [index, verb] of verbs.entries()) {
      const { options }: VerbEntry = manual[verb];
      assert.deepEqual(
        offered[index]?.sort(),
        [
          ...options
            .filter(({ name }) => !isShort(verb, name))
            .map(({ name, value }) => `--${name}${value === undefined ? '' : '='}`),
          '--help',
        ].sort(),
      );
    }
  });

  test('fish offers the same', () => {
    assert.deepEqual(fish('re').sort(), ['rekey', 'reseal', 'rewrap']);
    assert.deepEqual(fish('seal', '--with-key=t').sort(), ['--with-key=tpm2', '--with-key=tpm2+host']);
    assert.deepEqual(fish('scopes', 'w'), ['web1', 'web2']);
    assert.deepEqual(fish('get', '--host=web1', 'se'), ['session-key']);
    assert.deepEqual(fish('get', '--host=web'), ['--host=web1', '--host=web2']);
    assert.deepEqual(fish('rm', `--vault=${join(built.path, 'other')}`, 'group'), ['group/db/token']);
    assert.ok(fish('put', '--file=files/fi').includes('--file=files/file'));
    assert.deepEqual(fish('vault', 'g'), ['get']);
    assert.deepEqual(fish('gokey', '-t', 'x'), ['x25519']);
  });

  test('zsh completes the same', () => {
    assert.equal(zsh('unse'), 'auxcred unseal ');
    assert.equal(zsh('seal', '--with-k'), 'auxcred seal --with-key=');
    assert.equal(zsh('seal', '--with-key=a'), 'auxcred seal --with-key=auto ');
    assert.equal(zsh('get', '--host=web1', 'se'), 'auxcred get --host=web1 session-key ');
    assert.equal(
      zsh('rm', `--vault=${join(built.path, 'other')}`, 'gr'),
      `auxcred rm --vault=${join(built.path, 'other')} group/db/token `,
    );
    assert.equal(zsh('put', '--file=files/fi'), 'auxcred put --file=files/file ');
    assert.equal(zsh('gokey', '-t', 'x'), 'auxcred gokey -t x25519 ');
  });

  test('prints nothing if there is nothing', () => {
    const { status, stdout, stderr } = spawnSync(
      join(built.path, 'bin/auxcred'),
      ['names', 'secrets', `--root=${join(built.path, 'files/folder')}`],
      { encoding: 'utf8', env: environment },
    );
    assert.deepEqual([status, stdout, stderr], [0, '', '']);
  });
});
