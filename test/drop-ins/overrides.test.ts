import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { overridesOn } from '../../src/drop-ins/overrides.ts';
import { textIfPresent } from '../../src/system/files.ts';
import { pathsUnder } from '../../src/system/paths.ts';
import { listItemsIn } from '../../src/system/systemctl.ts';
import { assignmentsOf, UnitFiles } from '../../src/system/unit-files.ts';

let root = '';
const write = (path: string, text: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
};
const link = (path: string, target: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  symlinkSync(target, join(root, path));
};
const etc = 'etc/systemd/system';
/** What was applied, with both forms of a credential, whichever one a version renders. */
const dropIn =
  '[Unit]\nWants=auxcred.socket\nAfter=auxcred.socket\nAssertPathExists=/run/auxcred/files/f\n' +
  '[Service]\nLoadCredential=a:/run/a\nLoadCredentialEncrypted=b:/run/b\nLoadCredentialEncrypted=d:/run/d\n' +
  'SetCredentialEncrypted=d:never\nExecStartPre=+auxcred stage %n\nRefreshOnReload=credentials\n';
const all = ['LoadCredential=a:/run/a', 'LoadCredentialEncrypted=b:/run/b', 'LoadCredentialEncrypted=d:/run/d'];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'root-'));
  for (const unit of ['web.service', 'site@.service', 'a-b-c.service'])
    write(`etc/auxcred/.rendered.1/units/${unit}.d/50-auxcred.conf`, dropIn);
  write('etc/auxcred/.rendered.1/units/sysinit.target.d/50-auxcred.conf', '[Unit]\nWants=auxcred-files.service\n');
  link('etc/auxcred/rendered', '.rendered.1');
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

/** `UNIT HOW FILE: LINES`. */
const overrides = (): string[] =>
  overridesOn(pathsUnder(root), textIfPresent).map(
    ({ unit, how, file, lines }) => `${unit} ${how} ${file.slice(root.length + 1)}: ${lines.join(', ')}`,
  );

const cases: readonly (readonly [string, string, string, readonly string[]])[] = [
  [
    'an empty LoadCredential= takes encrypted ones with it',
    `${etc}/web.service.d/60.conf`,
    '[Service]\nLoadCredential=\n',
    [`web.service undoes ${etc}/web.service.d/60.conf: ${all.join(', ')}`],
  ],
  [
    'and so does an empty LoadCredentialEncrypted=',
    'run/systemd/system/web.service.d/60.conf',
    '[Service]\nLoadCredentialEncrypted =\n',
    [`web.service undoes run/systemd/system/web.service.d/60.conf: ${all.join(', ')}`],
  ],
  ['before ours it does nothing', `${etc}/web.service.d/40.conf`, '[Service]\nLoadCredential=\n', []],
  ['in another section it is nothing', `${etc}/web.service.d/60.conf`, '[Unit]\nLoadCredential=\n', []],
  ['in a comment too', `${etc}/web.service.d/60.conf`, '[Service]\n#LoadCredential=\n;LoadCredential=\n', []],
  [
    'the same credential from elsewhere',
    `${etc}/web.service.d/60.conf`,
    '[Service]\nLoadCredential=b:/etc/b\n',
    [`web.service undoes ${etc}/web.service.d/60.conf: LoadCredentialEncrypted=b:/run/b`],
  ],
  [
    'in the unit itself, which is read first, ours counts',
    `${etc}/web.service`,
    '[Service]\nLoadCredential=b:/etc/b\nExecStart=/bin/true\n',
    [],
  ],
  ['another credential', `${etc}/web.service.d/60.conf`, '[Service]\nLoadCredential=c:/etc/b\n', []],
  [
    'an empty ExecStartPre=',
    `${etc}/web.service.d/60.conf`,
    '[Service]\nExecStartPre=\nExecStartPre=/bin/true\n',
    [`web.service undoes ${etc}/web.service.d/60.conf: ExecStartPre=+auxcred stage %n`],
  ],
  [
    'any empty assertion',
    `${etc}/web.service.d/60.conf`,
    '[Unit]\nAssertFileNotEmpty=\n',
    [`web.service undoes ${etc}/web.service.d/60.conf: AssertPathExists=/run/auxcred/files/f`],
  ],
  ['an empty condition', `${etc}/web.service.d/60.conf`, '[Unit]\nConditionPathExists=\nWants=\nAfter=\n', []],
  [
    'RefreshOnReload=',
    `${etc}/web.service.d/60.conf`,
    '[Service]\nRefreshOnReload=no\n',
    [`web.service undoes ${etc}/web.service.d/60.conf: RefreshOnReload=credentials`],
  ],
  [
    'a continued line',
    `${etc}/web.service.d/60.conf`,
    '[Service]\nLoadCredential=\\\n# a comment between\n  a:/etc/b\n',
    [`web.service undoes ${etc}/web.service.d/60.conf: LoadCredential=a:/run/a`],
  ],
  [
    'a drop-in of the same name',
    `${etc}/web.service.d/50-auxcred.conf`,
    '[Service]\nLoadCredential=a:/etc/b\n',
    [
      `web.service hides ${etc}/web.service.d/50-auxcred.conf: Wants=auxcred.socket, After=auxcred.socket, ` +
        `AssertPathExists=/run/auxcred/files/f, ${all.join(', ')}, SetCredentialEncrypted=d:never, ` +
        'ExecStartPre=+auxcred stage %n, RefreshOnReload=credentials',
    ],
  ],
  [
    'one in a folder of lower precedence',
    'usr/lib/systemd/system/web.service.d/50-auxcred.conf',
    '[Service]\nLoadCredential=\n',
    [],
  ],
  [
    'all services',
    `${etc}/service.d/60.conf`,
    '[Service]\nExecStartPre=\n',
    ['a-b-c.service', 'site@.service', 'web.service'].map(
      (unit) => `${unit} undoes ${etc}/service.d/60.conf: ExecStartPre=+auxcred stage %n`,
    ),
  ],
  [
    'names with a common prefix',
    `${etc}/a-b-.service.d/60.conf`,
    '[Service]\nLoadCredential=\n',
    [`a-b-c.service undoes ${etc}/a-b-.service.d/60.conf: ${all.join(', ')}`],
  ],
  [
    'a template',
    `${etc}/site@.service.d/60.conf`,
    '[Service]\nLoadCredential=\n',
    [`site@.service undoes ${etc}/site@.service.d/60.conf: ${all.join(', ')}`],
  ],
  [
    'values of its own',
    `${etc}/web.service`,
    '[Service]\nSetCredential=a:value\nSetCredentialEncrypted=b:\nSetCredential=c:value\n' +
      'ImportCredential=c*\nImportCredential=a:other\n',
    [`web.service sets ${etc}/web.service: SetCredential=a, SetCredentialEncrypted=b`],
  ],
  [
    'values that are cleared again',
    `${etc}/web.service.d/40.conf`,
    '[Service]\nSetCredential=a:value\nSetCredentialEncrypted=\n',
    [],
  ],
  [
    'a value that replaces ours, which never opens',
    `${etc}/web.service.d/60.conf`,
    '[Service]\nSetCredential=d:value\n',
    [`web.service sets ${etc}/web.service.d/60.conf: SetCredential=d`],
  ],
  ['one that ours takes the place of', `${etc}/web.service`, '[Service]\nSetCredential=d:value\n', []],
  [
    'ours cleared, while the socket still counts',
    `${etc}/web.service.d/60.conf`,
    '[Service]\nSetCredentialEncrypted=\n',
    [],
  ],
  [
    'what it imports',
    `${etc}/web.service.d/60.conf`,
    '[Service]\nImportCredential=*\nImportCredential=x*:b\nImportCredential=b:x\nImportCredential=x:b.c\n',
    [`web.service sets ${etc}/web.service.d/60.conf: ImportCredential=*, ImportCredential=x*:b`],
  ],
];

describe('overrides of a drop-in', () => {
  test('none without other files', () => {
    assert.deepEqual(overrides(), []);
  });
  for (const [what, path, text, expected] of cases)
    test(what, () => {
      write(path, text);
      assert.deepEqual(overrides(), expected);
    });
  test('a link to /dev/null in its place', () => {
    link('run/systemd/system/web.service.d/50-auxcred.conf', '/dev/null');
    assert.match(
      overrides().join('\n'),
      /^web\.service hides run\/systemd\/system\/web\.service\.d\/50-auxcred\.conf: Wants/,
    );
  });
});

describe('unit files', () => {
  test('the order in which systemd reads them', () => {
    for (const path of [
      'etc/systemd/system/site@.service.d/b.conf',
      'run/systemd/system/site@x.service.d/a.conf',
      'usr/lib/systemd/system/site@.service.d/a.conf',
      'etc/systemd/system/service.d/a.conf',
      'usr/lib/systemd/system/site@.service',
      'etc/systemd/system/service.d/c.conf',
      'etc/systemd/system/service.d/c.txt',
    ])
      write(path, '');
    assert.deepEqual(
      new UnitFiles(root).of('site@x.service').map((path) => path.slice(root.length + 1)),
      [
        'usr/lib/systemd/system/site@.service',
        'run/systemd/system/site@x.service.d/a.conf',
        'etc/systemd/system/site@.service.d/b.conf',
        'etc/systemd/system/service.d/c.conf',
      ],
    );
  });

  test('neither hidden drop-ins nor prefixes of an instance count', () => {
    const counted = ['site-api@.service', 'site-.service.d/a.conf', 'site-api@x-y.service.d/b.conf'];
    for (const name of [...counted, 'site-api@x-.service.d/c.conf', 'site-api@.service.d/.d.conf'])
      write(`${etc}/${name}`, '');
    assert.deepEqual(
      new UnitFiles(root).of('site-api@x-y.service'),
      counted.map((name) => join(root, etc, name)),
    );
  });

  test('drop-ins of the prefixes of an instance, the strongest first', () => {
    const names = ['a-b@x-y', 'a-b@', 'a-', 'a-@x-y', 'a-@'].map((name) => `${name}.service.d`);
    for (const [i, name] of names.entries())
      for (const dropIn of ['all.conf', `${String(i)}.conf`]) write(`${etc}/${name}/${dropIn}`, '');
    assert.deepEqual(
      new UnitFiles(root).of('a-b@x-y.service'),
      [...names.map((name, i) => `${name}/${String(i)}.conf`), `${names[0] ?? ''}/all.conf`].map((name) =>
        join(root, etc, name),
      ),
    );
  });

  test('aliases, and links that only look like one', () => {
    write(
      'usr/lib/systemd/system/nginx.service',
      '[Install]\nAlias=www.service web2.service\nWantedBy=multi-user.target\n',
    );
    write('usr/lib/systemd/system/getty@.service', '');
    link(`${etc}/web.service`, '../../../usr/lib/systemd/system/nginx.service');
    link(`${etc}/site.service`, 'web.service');
    link(`${etc}/off.service`, '/dev/null');
    link(`${etc}/linked.service`, '/opt/app/linked.service');
    link(`${etc}/getty@tty1.service`, '/usr/lib/systemd/system/getty@.service');
    link(`${etc}/autovt@.service`, '/usr/lib/systemd/system/getty@.service');
    link(`${etc}/loop.service`, 'pool.service');
    link(`${etc}/pool.service`, 'loop.service');
    const files = new UnitFiles(root);
    const found = [
      'nginx',
      'web',
      'site',
      'off',
      'linked',
      'getty@tty1',
      'autovt@',
      'autovt@tty2',
      'www',
      'web2',
      'none',
      'none@x',
      'loop',
    ].map((name) => files.aliased(`${name}.service`));
    assert.deepEqual(found, [
      undefined,
      'nginx.service',
      'nginx.service',
      undefined,
      undefined,
      undefined,
      'getty@.service',
      'getty@tty2.service',
      'nginx.service',
      'nginx.service',
      undefined,
      undefined,
      undefined,
    ]);
  });

  test('lines', () => {
    assert.deepEqual(assignmentsOf('x=1\n[A]\n a = b = c \nk=\\\n v\n[B]\nlast=\\'), [
      { section: '', key: 'x', value: '1' },
      { section: 'A', key: 'a', value: 'b = c' },
      { section: 'A', key: 'k', value: 'v' },
    ]);
  });

  test('lists of systemctl show', () => {
    assert.deepEqual(listItemsIn('/a/b.conf "/c d/\\"e.conf" /f\\x5cx2dg "foo*"'), [
      '/a/b.conf',
      '/c d/"e.conf',
      '/f\\x2dg',
      'foo*',
    ]);
    assert.deepEqual(listItemsIn(''), []);
  });
});
