import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readManifest } from '../../src/manifest/manifest.ts';
import { problemText } from '../../src/manifest/problem-text.ts';
import { admin, errors, read, root, useRoot, write } from './root.ts';

useRoot();

/** A declaration, the message about it, and its line. */
const mistakes: readonly [string, RegExp, number | undefined][] = [
  ['[secret.a]\nlenght = 3\nunits = ["a.service"]', /a password secret has no key lenght/, 2],
  ['[secret.a]\nkind = "hexx"', /"hexx" is not known here/, 2],
  ['[secret.a]\nkind = "hex"\nlength = 3', /a hex secret has no key length/, 3],
  ['[secret.A]\nunits = ["a.service"]', /"A" is not a secret's name/, 1],
  ['[secret."a/../b"]', /is not a secret's name/, 1],
  ['[secret.a]\nunits = "a.service"', /a list of texts is expected/, 2],
  ['[secret.a]\nunits = ["a"]', /"a" is not the name of a service/, 2],
  ['[secret.a]\nunits = ["var.mount"]', /"var.mount" is not the name of a service/, 2],
  ['[secret.a]\nunits = ["a b.service"]', /is not the name of a service/, 2],
  ['[secret.a]\nunits = ["systemd-udevd.service"]', /starts before the broker/, 2],
  ['[secret.a]\nunits = ["auxcred.service"]\ndelivery = "credstore"', /it is the broker/, 2],
  ['[secret.a]\nunits = ["systemd-sysusers.service"]\ndelivery = "file"', /starts before the broker/, 2],
  ['[secret.a]\nowner = "root"', /a password secret has no key owner/, 2],
  ['[secret.a]\ndelivery = "file"\nowner = "a b"', /"a b" is not the name or number of a user/, 3],
  ['[secret.a]\ndelivery = "file"\ngroup = "4294967295"', /is not the name or number of a group/, 3],
  ['[secret.a]\ndelivery = "file"\nmode = "4755"', /"4755" is not a file's mode/, 3],
  ['[secret.a]\ndelivery = "file"\nmode = 256', /text is expected here/, 3],
  ['[secret.a]\ndelivery = "file"\nlink = "etc/a"', /"etc\/a" is not an absolute path/, 3],
  ['[secret.a]\ndelivery = "file"\nlink = "/etc/../a"', /has an empty segment, \. or \.\./, 3],
  ['[secret.a]\ndelivery = "file"\nlink = "/run/auxcred/files/b"', /lies inside \/run\/auxcred/, 3],
  ['[secret.a]\ndelivery = "file"\nlink = "/"', /has an empty segment/, 3],
  ['[secret.a]\ndelivery = "file"\nneeded-for = "boot"', /"boot" is not known here/, 3],
  [
    '[secret.a]\ndelivery = "file"\nunits = ["a.service"]\n[secret.b]\ndelivery = "file"\ncredential = "a"\n' +
      'units = ["b.service"]',
    /a has the file a already/,
    4,
  ],
  [
    '[secret.a]\ndelivery = "file"\nlink = "/etc/a"\n[secret.b]\ndelivery = "file"\nlink = "/etc/a"',
    /a has the file \/etc\/a already/,
    4,
  ],
  [
    '[secret.a]\ncredential = "auxcred.a"\ndelivery = "credstore"',
    /names that begin with auxcred\. are reserved for the credentials of single units/,
    2,
  ],
  [
    '[secret.a]\ndelivery = "credstore"\n[secret.b]\ndelivery = "credstore"\ncredential = "a"',
    /the credential store gets a under the id a already/,
    3,
  ],
  ['[secret.a]\nunits = ["auxcred.service"]', /it is the broker/, 2],
  [
    `[secret.a]\nunits = ["${'u'.repeat(75)}.service"]`,
    /have 84 bytes together, and systemd's socket credentials have room for 83/,
    2,
  ],
  ['[secret.a]\ncredential = "a b"', /is not usable as a credential's id/, 2],
  ['[secret.a]\ncredential = "%i"', /is not usable as a credential's id/, 2],
  ['[secret.a]\nlength = 0', /a whole number from 1 to 131072/, 2],
  ['[secret.a]\nlength = "3"', /a whole number/, 2],
  ['[secret.a]\nkind = "hex"\nbytes = 65537', /a whole number from 1 to 65536/, 3],
  ['[secret.a]\nalphabet = "aaa"', /an alphabet needs two different/, 2],
  ['[secret.a]\nalphabet = "äö"', /an alphabet needs two different/, 2],
  ['[secret.a]\nrequire = ["vowel"]', /"vowel" is not a class/, 2],
  ['[secret.a]\nalphabet = "digits"\nrequire = ["upper"]', /the alphabet has no upper character/, 3],
  ['[secret.a]\nlength = 1\nrequire = ["upper", "lower"]', /2 required classes do not fit 1 characters/, 3],
  ['[secret.a]\ngeneration = 1.5', /a whole number/, 2],
  ['[secret.a]\nlength = 10', /it can be guessed: it has 60 bits of strength, and at least 64 are required/, 1],
  ['[secret.a]\nkind = "passphrase"\nwords = 4', /it has 52 bits/, 1],
  ['[secret.a]\nkind = "hex"\nbytes = 7', /it has 56 bits/, 1],
  ['[secret.a]\nweak = "yes"', /true or false is expected/, 2],
  ['[secret.a]\nkind = "uuid"\nweak = true', /a uuid secret has no key weak/, 3],
  [
    '[secret.a]\nlength = 4\nweak = true\nalphabet = "abcdefghijklmnopqrstuvwxyzA1!"\n' +
      'require = ["lower", "upper", "digit", "symbol"]',
    /fewer than one in a thousand/,
    5,
  ],
  ['[secret.a]\nkind = "passphrase"\nseparator = "ä"', /printable ASCII of at most 16/, 3],
  ['[secret.a]\nkind = "ssh-ed25519"\ncomment = "a\\nb"', /printable ASCII of at most 200/, 3],
  ['[secret.a]\nshare = "Db"', /"Db" is not the name of a group/, 2],
  ['[secret.a]\nrotate = "hourly"', /"hourly" is not known here/, 2],
  ['[secret.a]\nperiod = "2026-10"', /a secret that does not rotate has no periods/, 2],
  [
    '[secret.a]\nrotate = "monthly"\nperiod = "2026-13"',
    /"2026-13" is not a period of a secret that rotates monthly/,
    3,
  ],
  [
    '[secret.a]\nrotate = "monthly"\nperiod = "2026-W10"',
    /"2026-W10" is not a period of a secret that rotates monthly/,
    3,
  ],
  [
    '[secret.a]\nkind = "uuid"\nrotate = "weekly"\nperiod = "2026"',
    /"2026" is not a period of a secret that rotates weekly/,
    4,
  ],
  ['[secret.a]\nprevious = true', /nothing comes before the first generation/, 2],
  ...(
    [
      ['yearly', '0001'],
      ['quarterly', '0001-Q1'],
      ['monthly', '0001-01'],
      ['weekly', '0001-W01'],
      ['daily', '0001-01-01'],
    ] as const
  ).map(([rotate, period]): [string, RegExp, number] => [
    `[secret.a]\nrotate = "${rotate}"\nperiod = "${period}"\nprevious = true`,
    new RegExp(`nothing comes before ${period}, the first period that there is`),
    4,
  ]),
  ['[secret.a]\nchange = "kill"', /"kill" is not known here/, 2],
  ['[secret.a]\nhook = ["tell"]', /by its absolute path/, 2],
  ['[secret.a]\nkind = "template"', /a template has one of content, env and json/, 1],
  ['[secret.a]\nkind = "template"\ncontent = ""\nenv = {}', /a template has one of content, env and json/, 4],
  ['[secret.a]\nkind = "template"\ncontent = "{{b}}"', /a -> b: no secret is declared by this name/, 1],
  ['[secret.a]\nkind = "template"\ncontent = "{{a}}"', /it is made of itself: a -> a/, 1],
  ['[secret.a]\nkind = "template"\ncontent = "x{{b"', /"\{\{b" is not the name of a secret in braces/, 3],
  ['[secret.b]\n[secret.a]\nkind = "template"\ncontent = "{{b | shell}}"', /"shell" is not an escape/, 4],
  [
    '[secret.b]\n[secret.a]\nkind = "template"\ncontent = "{{b | json | url}}"',
    /json and env quote a value, so they come last/,
    4,
  ],
  ['[secret.b]\n[secret.a]\nkind = "template"\nenv = { A = "{{b | env}}" }', /the whole value is quoted here/, 4],
  ['[secret.b]\n[secret.a]\nkind = "template"\nenv = { "A-B" = "{{b}}" }', /"A-B" is not the name of a variable/, 4],
  ['[secret.b]\n[secret.a]\nkind = "template"\nenv = { A = "\\u0000{{b}}" }', /A has a control character/, 4],
  ['[secret.a]\nkind = "template"\njson = { a = 2026-11-23 }', /JSON can.t hold such a value/, 3],
  ['[secret.b]\n[secret.a]\nkind = "template"\ncontent = "{{b.public}}"', /it has no public half/, 2],
  ['[secret.b]\n[secret.a]\nkind = "template"\ncontent = "{{b.previous}}"', /it has no previous value/, 2],
  ['[secret.b]\nkind = "bytes"\n[secret.a]\nkind = "template"\njson = "{{b}}"', /bytes are not text/, 3],
  [
    '[secret.b]\nkind = "bytes"\nbytes = 131072\n[secret.a]\nkind = "template"\ncontent = "{{b}}{{b}}"',
    /it may have 262144 bytes, and at most 131072 can be delivered/,
    4,
  ],
  ['[secret.a]\nkind = "crypt"', /the name of the secret to hash is missing/, undefined],
  [
    '[secret.b]\nkind = "age"\n[secret.a]\nkind = "crypt"\nof = "b"',
    /only a password or another one-line secret can be hashed/,
    3,
  ],
  [
    '[secret.b]\nlength = 73\n[secret.a]\nkind = "crypt"\nof = "b"\nmethod = "bcrypt"',
    /bcrypt reads no more than 72 bytes/,
    3,
  ],
  [
    '[secret.b]\nlength = 512\n[secret.a]\nkind = "crypt"\nof = "b"',
    /yescrypt reads no more than 511 bytes, and it may have 512/,
    3,
  ],
  [
    '[secret.b]\nkind = "hex"\nbytes = 256\n[secret.a]\nkind = "crypt"\nof = "b"\nmethod = "sha512-crypt"',
    /sha512-crypt reads no more than 511 bytes/,
    4,
  ],
  ['[secret.b]\n[secret.a]\nkind = "crypt"\nof = "b"\nrounds = 12', /a whole number from 1 to 11/, 5],
  [
    '[secret.k]\nkind = "age"\nunits = ["a.service"]\n[secret."k.pub"]\nunits = ["a.service"]',
    /a.service gets k under the id k.pub already/,
    4,
  ],
  ['[secrets.a]\n', /a manifest has no such table/, undefined],
  ['secret = 3', /a table is expected here/, undefined],
  ['[secret]\na = 3', /a table is expected here/, undefined],
  ['[secret.a]\nunits = [', /it is not TOML/, 2],
  ['[secret.a]\n<<<<<<< HEAD\nkind = "hex"\n=======\nkind = "uuid"\n>>>>>>> b\n', /a merge left a conflict here/, 2],
  [
    '[secret.a]\nunits = ["a.service"]\n[secret.b]\ncredential = "a"\nunits = ["a.service"]',
    /a.service gets a under the id a already/,
    undefined,
  ],
  [
    '[secret."x/y"]\nunits = ["a.service"]\n[secret.x_y]\nunits = ["a.service"]',
    /a.service gets x\/y under the id x_y already/,
    undefined,
  ],
];

describe('a mistake', () => {
  for (const [text, message, line] of mistakes)
    test(text.replaceAll('\n', ' '), () => {
      const { problems, declarations } = read(text);
      const found = problems.filter(({ severity }) => severity === 'error');
      assert.equal(found.length, 1, JSON.stringify(problems));
      assert.match(found[0]?.message ?? '', message);
      assert.equal(found[0]?.file, admin);
      if (line !== undefined) assert.equal(found[0]?.line, line);
      assert.deepEqual(declarations, []);
    });

  test('in quotes has a way out', () => {
    const hint = (text: string): string | undefined => {
      const [problem, ...others] = read(text).problems.filter(({ severity }) => severity === 'error');
      assert.deepEqual(others, []);
      return problem?.hint;
    };
    assert.equal(hint('[secret.a]\nkind = hex'), 'kind = "hex"');
    assert.equal(hint('[secret.a]\ndelivery = "file"\nmode = 0400 # only root'), 'mode = "0400"');
    assert.equal(hint('[secret.a]\nprevious = True'), 'previous = true');
    assert.equal(hint('[secret.a]\nunits = ["a.service"'), undefined);
    assert.equal(hint('[secret.db.main]\nkind = "hex"'), '[secret."db.main"]');
    assert.match(hint('[secret.a.env]\nA = "x"') ?? '', /^it has kind,/);
  });

  test('in a name that two files declare is one problem', () => {
    write('/etc/auxcred/secrets.d/a.toml', '[secret.a]\nunits = ["a.service"]\n');
    assert.match(errors(read('[secret.a]\nunits = ["a.service"]')).join(), /^a is declared in \S+a\.toml too$/);
  });

  test('in a key has a suggestion', () => {
    assert.equal(read('[secret.a]\nlenght = 3\nunits = ["a.service"]').problems[0]?.hint, 'did you mean length?');
    assert.match(
      read(`[secret.a]\nunits = ["${'u'.repeat(75)}.service"]`).problems[0]?.hint ?? '',
      /delivery = "stage"/,
    );
  });

  test('files can be written before users are created, and a mode for everybody causes a warning', () => {
    const { problems, declarations } = read(
      '[secret.a]\ndelivery = "file"\nneeded-for = "users"\nunits = ["systemd-sysusers.service"]\nmode = "0444"',
    );
    assert.deepEqual(
      problems.map(({ severity, message }) => `${severity}: ${message}`),
      ['warning: every user of the machine gets this secret'],
    );
    assert.deepEqual(declarations[0]?.placement, {
      owner: 'root',
      group: 'root',
      mode: 0o444,
      link: undefined,
      neededFor: 'users',
    });
  });

  test('credstore serves units before the broker, and needs none', () => {
    assert.deepEqual(
      read(
        '[secret.a]\ndelivery = "credstore"\nunits = ["systemd-udevd.service", "systemd-sysusers.service"]\n' +
          '[secret.b]\ndelivery = "credstore"',
      ).problems,
      [],
    );
  });

  test('shows a terminal nothing that it acts on', () => {
    const file = '/etc/\u001b[31m\u202e.toml';
    const text = problemText({
      file,
      line: 1,
      key: 'secret.\u0007',
      message: 'a\nb',
      hint: '\u009b',
      severity: 'error',
    });
    assert.equal(text, '/etc/ [31m .toml:1: error: secret. : a b\n     ');
  });

  test('is reported along with all others, and does not affect the other files', () => {
    write('/etc/auxcred/secrets.d/a.toml', '[secret.a]\nlenght = 3\nkind = "hexx"\nunits = ["a"]\n');
    write('/etc/auxcred/secrets.d/b.json', '{"secret": {"b": {"units": ["b.service"]}}}');
    write('/etc/auxcred/secrets.d/c.json', '{"secret": ');
    const manifest = readManifest(root);
    assert.equal(errors(manifest).length, 4);
    assert.deepEqual(
      manifest.declarations.map(({ name }) => name),
      ['b'],
    );
  });

  test('no unit at all is worth a warning', () => {
    assert.deepEqual(
      read('[secret.a]').problems.map(({ severity, message }) => [severity, message]),
      [['warning', 'no unit gets this secret']],
    );
  });
});
