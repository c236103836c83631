/** What docs/watching.md shows, as it is shown, on the machine of the rotations. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { valuesIn } from '../health/metrics.ts';
import { filesOfPage } from '../watching-page.ts';
import { clockOfRotation, machine } from './rotating-machine.ts';

/** Waits until a file has a line. Both are what a unit leaves behind when it is done. */
async function arrived(path: string, what: RegExp): Promise<string> {
  for (let i = 0; i < 300; i++) {
    const text = (await machine.shell(`cat ${path} 2> /dev/null || true`)).stdout;
    if (what.test(text)) return text;
    await machine.shell('sleep 0.1');
  }
  const { stdout } = await machine.run(['journalctl', '-b', '--no-pager', '-n', '60']);
  return assert.fail(`${path} never had ${String(what)}\n${stdout}`);
}

/** This host's curl with its own libraries, as the machine has none. */
const curl = (host: string): string =>
  '#!/bin/sh\n' +
  `exec ${host}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path ${host}/usr/lib/x86_64-linux-gnu ` +
  `${host}/usr/bin/curl "$@"\n`;

/** Listens as ntfy does, and writes down what it is sent. */
const listener = `require('node:http').createServer((request, response) => {
  let body = '';
  request.on('data', (part) => { body += part; }).on('end', () => {
    require('node:fs').appendFileSync('/run/ntfy', \`\${request.method} \${request.url} \${request.headers.title}: \${body}\n\`);
    response.end();
  });
}).listen(8080, '127.0.0.1');`;

/** Delivers in the background, a moment after it has ended, as exim does. */
const sendmail = `#!/bin/sh
mail=$(mktemp)
{ echo "$@"; cat; echo; echo END; } > $mail
(
  while kill -0 $$ 2> /dev/null; do sleep 0.05; done
  sleep 0.5
  cat $mail >> /run/mail
) > /dev/null 2>&1 < /dev/null &
`;

/** Mail goes to a stand-in for sendmail that writes down what it is given, ntfy to a listener on this machine. */
async function preparePage(): Promise<void> {
  for (const [path, text] of filesOfPage()) if (path.startsWith('/etc/systemd/')) await machine.write(path, text);
  await machine.write('/usr/sbin/sendmail', sendmail, 0o755);
  await machine.write('/usr/bin/curl', curl('/host'), 0o755);
  await machine.write('/etc/tell-by-ntfy', 'url = http://127.0.0.1:8080/topic\n');
  await machine.write('/usr/local/lib/ntfy.cjs', listener);
  await machine.write(
    '/etc/systemd/system/ntfy.service',
    '[Service]\nExecStart=/usr/bin/node /usr/local/lib/ntfy.cjs\n',
  );
  await machine.write('/etc/systemd/system/auxcred-rotate.service.d/soon.conf', '[Service]\nRestartSec=100ms\n');
  // For the same reason: six tries take a second here, not an hour.
  for (const by of ['mail', 'ntfy'])
    await machine.write(`/etc/systemd/system/tell-by-${by}@.service.d/soon.conf`, '[Unit]\nStartLimitIntervalSec=0\n');
  await machine.write(
    '/etc/systemd/system/refused.service',
    '[Service]\nLoadCredentialEncrypted=nothing:/run/auxcred/encrypted.sock\nExecStart=/bin/true\n',
  );
  await machine.shell('mkdir -p /var/lib/prometheus/node-exporter');
  await machine.systemctl('daemon-reload');
  await machine.systemctl('start', 'ntfy.service', 'auxcred-refusals.service');
}

/** They leave the machine with a hook that fails. */
export function watchingTests(): void {
  before(preparePage);

  test('a rotation that keeps failing is told, once, by mail and by ntfy', async () => {
    await machine.shell('touch /etc/told-broken');
    await clockOfRotation('2027-03-01 00:00:01');
    await machine.run(['systemctl', 'reset-failed', 'auxcred-rotate.service'], { check: false });
    await machine.run(['systemctl', 'start', '--no-block', 'auxcred-rotate.service']);
    const mail = await arrived('/run/mail', /^END$/m);
    assert.match(mail, /^-t\nTo: root\nSubject: auxcred-rotate\.service failed on web1\n\n/);
    assert.match(mail, /Active: failed/);
    assert.match(mail, /auxcred: .*told/);
    const told = await arrived('/run/ntfy', /\n/);
    assert.match(told, /^POST \/topic auxcred-rotate\.service failed on web1: \S+\n$/);
    const { stdout } = await machine.run([
      'journalctl',
      '-b',
      '-u',
      'auxcred-rotate.service',
      '--no-pager',
      '-o',
      'cat',
      '--grep=^Starting Rotate Secrets|^Starting auxcred-rotate',
      '--since=-1min',
    ]);
    assert.ok(stdout.trim().split('\n').length >= 6, stdout);
    assert.equal((await machine.shell('grep -c "^END$" /run/mail')).stdout.trim(), '1');
  });

  test('a refusal that belongs to no unit is told, and a unit that is refused a secret tells itself', async () => {
    await machine.shell('rm /run/mail');
    await machine.shell("printf 'odd.service' | socat -t 5 - UNIX-CONNECT:/run/auxcred/stage.sock > /dev/null");
    assert.match(
      await arrived('/run/mail', /^END$/m),
      /^-t\nTo: root\nSubject: secret refused on web1\n\nrefused .*odd/,
    );
    await machine.shell('systemctl start refused.service || true');
    assert.match(await arrived('/run/mail', /^END\n[^]*^END$/m), /^Subject: refused\.service failed on web1$/m);
  });

  test('metrics count releases and refusals, also those that the journal has forgotten', async () => {
    await machine.systemctl('start', 'auxcred-metrics.timer', 'auxcred-metrics.service');
    const file = '/var/lib/prometheus/node-exporter/auxcred.prom';
    const values = async (): Promise<Map<string, number>> => valuesIn((await machine.read(file)).toString());
    const first = await values();
    const [released, refused] = ['auxcred_releases_total', 'auxcred_refusals_total'];
    const records = async (outcome: string): Promise<number> =>
      (await machine.journal('-b', '_SYSTEMD_UNIT=auxcred.service', `AUXCRED_OUTCOME=${outcome}`)).length;
    assert.ok((first.get(refused) ?? 0) >= 2);
    assert.equal(first.get(refused), await records('refused'));
    assert.ok((first.get(released) ?? 0) >= (await records('released')));
    assert.equal(first.get('auxcred_seed_opens'), 1);
    assert.equal(first.get('auxcred_own_unit_failed{unit="auxcred-rotate.service"}'), 1);
    await machine.run(['journalctl', '--rotate', '--vacuum-size=1K']);
    assert.equal(await records('refused'), 0);
    await machine.shell('systemctl start refused.service || true');
    // The same fields, logged by a user.
    await machine.shell(
      "printf 'MESSAGE_ID=3a5f6c0be2ce4f3f8a1f8b3f5d1b9c57\\nMESSAGE=x\\nAUXCRED_OUTCOME=refused\\n' > /tmp/forged; " +
        'setpriv --reuid=daemon --clear-groups logger --journald < /tmp/forged',
    );
    await machine.run(['journalctl', '--sync']);
    const added = await records('refused');
    assert.ok(added >= 1);
    await machine.systemctl('start', 'auxcred-metrics.service');
    assert.equal((await values()).get(refused), (first.get(refused) ?? 0) + added);
    await machine.systemctl('start', 'auxcred-metrics.service');
    assert.equal((await values()).get(refused), (first.get(refused) ?? 0) + added, 'nothing is counted twice');
    assert.equal(
      (await machine.shell(`setpriv --reuid=daemon --clear-groups cat ${file} | wc -l`)).stdout.trim() === '0',
      false,
    );
  });
}
