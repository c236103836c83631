import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { at, auxcred, failureOf, operator, pushed, type Row, useOperator, withSettings } from './operator.ts';

useOperator('pushed');

describe('a hostile host', () => {
  /** A stand-in for ssh, which answers with a host's offer. */
  function hostile(script: string, ...args: string[]): ReturnType<typeof pushed> {
    writeFileSync(at('bin/hostile-ssh'), `#!/bin/bash\n${script}\n`, { mode: 0o755 });
    return withSettings(
      (text) => text.replace('near-ssh', 'hostile-ssh'),
      () => pushed('web1', ...args),
    );
  }
  const offerOf = (more: object): string => {
    const file = at('offer');
    const real = auxcred(['receive', `--root=${at('web1')}`]).stdout.split('\n')[0] ?? '';
    writeFileSync(file, `${JSON.stringify({ ...JSON.parse(real), ...more })}\n`);
    return `cat '${file}'`;
  };

  test('is shown up to a limit, and given up if it floods', () => {
    const many = hostile("printf 'line %d \\e[2J\\xe2\\x80\\xae\\n' {1..5000} >&2; exit 1");
    assert.ok(many.stderr.split('\n').length < 530, String(many.stderr.split('\n').length));
    assert.match(many.stderr, /^auxcred: web1: further output is left out$/m);
    assert.match(many.stderr, /^auxcred: web1: line 1 +\[2J$/m);
    const flood = hostile("yes 'it goes on and on' >&2");
    assert.deepEqual(failureOf(flood), ['malformed', 'web1 floods standard error']);
    assert.ok(flood.stderr.length < 100_000);
    const noLine = hostile("tr '\\0' x < /dev/zero >&2");
    assert.deepEqual(failureOf(noLine), ['malformed', 'web1 floods standard error']);
  });

  test("can't offer more than a real host could have", () => {
    assert.match(
      failureOf(hostile('echo -n \'{"protocol":1,"fixed":{"\'; tr \'\\0\' x < /dev/zero'))[1],
      /^web1 says more than 8388608 bytes in one line$/,
    );
    const values = `{"protocol":1,"fixed":{${Array.from({ length: 600_000 }, (_, i) => `"${i.toString(36)}":{}`).join()}}}\n`;
    writeFileSync(at('values'), values);
    assert.deepEqual(failureOf(hostile(`cat '${at('values')}'`)), [
      'malformed',
      'what web1 offers has more than 500000 values',
    ]);
    assert.match(
      failureOf(
        hostile(
          offerOf({
            pins: Object.fromEntries(
              Array.from({ length: 2000 }, (_, i) => [`group/g${String(i)}`, { epoch: 1, keyId: '0'.repeat(32) }]),
            ),
          }),
        ),
      )[1],
      /what web1 offers: pins is not at most 1000 scopes/,
    );
  });

  test("can't send control characters to a terminal", () => {
    const name = 'host/web1/evil\u202etxt';
    const { stderr, stdout } = withSettings(
      (text) => text.replace('near-ssh', 'hostile-ssh'),
      () => {
        writeFileSync(
          at('bin/hostile-ssh'),
          '#!/bin/bash\n' +
            `${offerOf({ fixed: { [name]: { digest: '0'.repeat(64), pushed: true, sequence: 1 } } })}\n` +
            'cat > /dev/null\n' +
            `echo '{"protocol":1,"units":[{"action":"restart","unit":"a\\u001b[2J\\u202e.service"}]}'\n`,
          { mode: 0o755 },
        );
        return auxcred(operator('push', '--json', '--dry-run', 'web1'));
      },
    );
    assert.match(stderr, /web1: would remove .*host\/web1\/evil txt/);
    for (const text of [stderr, stdout]) assert.doesNotMatch(text, /[\u202e\u001b]/);
    const { hosts }: { hosts: Row[] } = JSON.parse(stdout);
    assert.ok(hosts[0]?.sent.removed.includes(name), 'a program gets the name as it is');
  });

  test('that sends half a message, or nothing, is not waited for longer than --timeout', () => {
    for (const script of [
      'echo -n \'{"protocol":1,\'; sleep 60',
      `${offerOf({ unfinished: true })}; sleep 60`,
      'sleep 60',
    ]) {
      const started = Date.now();
      assert.deepEqual(
        failureOf(hostile(script, '--timeout=1')),
        ['timeout', 'web1 did not finish within 1 s'],
        script,
      );
      assert.ok(Date.now() - started < 20_000);
    }
    for (const script of [
      'echo \'{"protocol":1}\'',
      `${offerOf({ unfinished: true })}; cat > /dev/null; echo '{"protocol":1,"units":[{}]}'`,
    ])
      assert.equal(failureOf(hostile(script))[0], 'malformed', script);
  });

  test("with an unknown ssh host key is told from one that can't be reached", () => {
    const changed = hostile(
      'echo "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @" >&2\necho "Host key verification failed." >&2\n' +
        'exit 255',
    ).rows[0]?.failure;
    assert.equal(changed?.message, 'the ssh host key of web1 changed (reinstalled?)');
    assert.equal(
      changed.hint,
      'if you know that it was: ' +
        'ssh-keygen -R web1; ssh root@web1 auxcred enroll | auxcred enroll web1 --replace --from=-',
    );
    const unknown = hostile(
      'echo "No ED25519 host key is known for web1 and you have requested strict checking." >&2\n' +
        'echo "Host key verification failed." >&2\nexit 255',
    ).rows[0]?.failure;
    assert.equal(unknown?.message, 'the ssh host key of web1 is not known here');
    const port = withSettings(
      (text) => text.replace('[host.web1]\n', '[host.web1]\ntarget = "ssh://admin@web1:2222"\n'),
      () =>
        hostile(
          'echo "REMOTE HOST IDENTIFICATION HAS CHANGED" >&2; echo "Host key verification failed." >&2; exit 255',
        ),
    ).rows[0]?.failure;
    assert.match(port?.hint ?? '', /ssh-keygen -R '\[web1\]:2222'; ssh ssh:\/\/admin@web1:2222 sudo -n auxcred enroll/);
    const named = hostile(
      'echo "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @" >&2\n' +
        'echo "Host key for [192.0.2.7]:2222 has changed and you have requested strict checking." >&2\n' +
        'echo "Host key verification failed." >&2\nexit 255',
    ).rows[0]?.failure;
    assert.match(named?.hint ?? '', /: ssh-keygen -R '\[192\.0\.2\.7\]:2222'; ssh root@web1 auxcred enroll \| /);
    const injected = hostile(
      'echo "REMOTE HOST IDENTIFICATION HAS CHANGED" >&2; echo "Host key for x;reboot has changed and" >&2\n' +
        'echo "Host key verification failed." >&2\nexit 255',
    ).rows[0]?.failure;
    assert.match(injected?.hint ?? '', /: ssh-keygen -R web1; ssh root@web1 /);
  });

  test('behind a machine with an unknown ssh host key is not taken for that machine', () => {
    const ends =
      'echo "Host key verification failed." >&2\n' +
      'echo "kex_exchange_identification: Connection closed by remote host" >&2\n' +
      'echo "Connection closed by UNKNOWN port 65535" >&2\nexit 255';
    const unknown = hostile(ends).rows[0]?.failure;
    assert.equal(unknown?.message, 'the ssh host key of a machine on the way to web1 is not known here');
    assert.equal(unknown.hint, 'ssh root@web1 once, and compare the fingerprint with what its console shows');
    const changed = hostile(
      'echo "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @" >&2\n' +
        `echo "Host key for jump has changed and you have requested strict checking." >&2\n${ends}`,
    ).rows[0]?.failure;
    assert.equal(changed?.message, 'the ssh host key of a machine on the way to web1 changed (reinstalled?)');
    assert.match(changed.hint ?? '', /^if you know that it was: ssh-keygen -R jump; then ssh root@web1 once/);
  });
});
