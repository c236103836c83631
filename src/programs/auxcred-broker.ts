/**
 * auxcred.service: opens the machine's seeds once, then answers units until it was idle for a minute, or until the next
 * boot.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Chain } from '../audit/chain.ts';
import { ChainState } from '../audit/chain-state.ts';
import { privateKeyOf, type Signer, signerWith } from '../audit/key.ts';
import { Auditing } from '../broker/auditing.ts';
import { type Answers, Broker, socketNames } from '../broker/broker.ts';
import { givenOpeners, openServedSecrets, type ServedSecrets } from '../broker/served-secrets.ts';
import { exitStatus, Failure, messageOf } from '../failure.ts';
import { openingPatience } from '../seeds/open.ts';
import { hostScope, wipeScopes } from '../seeds/scope.ts';
import { activatedSockets } from '../system/activation.ts';
import { HostSecret, hostSecretChange } from '../system/host-credential.ts';
import { journal } from '../system/journal.ts';
import { guardMemory } from '../system/memory-guard.ts';
import { notify } from '../system/notify.ts';
import { pathsUnder } from '../system/paths.ts';
import { within } from '../system/time-limit.ts';

/** Milliseconds for which a broker without seeds refuses requests. Then it exits, and the next one tries again. */
const refusingTime = 3_000;
/** The credential through which auxcred.service gets systemd's host secret. */
const hostSecretCredential = 'host-secret';

/** Whether a thread may still wait for a TPM that hangs: it would also block an ordinary exit. */
let isStuck = false;

/** The result of `work` with the TPM, for which units may be waiting. @throws Failure `timeout` */
const soon = async <T>(work: Promise<T>, what: string): Promise<T> =>
  await within(openingPatience, work, () => {
    isStuck = true;
    throw new Failure('timeout', `${what} within ${String(openingPatience / 1000)} s`, {
      hint: 'is the TPM answering? auxcred unseal shows where it hangs',
    });
  });

/** What the broker answers from; if anything is wrong, that is the reason for its refusals. */
async function answers(): Promise<Answers> {
  try {
    const isSecretStale = hostSecretChange();
    const secret = givenHostSecret(process.env);
    const opening = openServedSecrets(pathsUnder('/'), givenOpeners(process.env));
    const opened = await soon(opening, 'the seeds could not be opened');
    process.on('exit', () => {
      wipeScopes(opened.scopes);
      secret.wipe();
    });
    return { opened, secret, isSecretStale, isLast: await lockSeeds(opened.lock) };
  } catch (error) {
    return { closed: error instanceof Failure ? error : new Failure('system', messageOf(error)) };
  }
}

/**
 * Locks the seeds until the next boot, if they are sealed with a lock. A TPM that refuses does not keep units from
 * their secrets.
 * @returns whether nobody may be able to open them again before that: a TPM that did not answer may have locked them
 */
async function lockSeeds(lock: ServedSecrets['lock']): Promise<boolean> {
  if (lock === undefined) return false;
  try {
    await soon(lock(), 'the TPM did not answer');
    journal({ MESSAGE: 'the seeds are locked until the next boot; this broker stays until then', PRIORITY: '6' });
  } catch (error) {
    journal({ MESSAGE: `the seeds could not be locked until the next boot: ${messageOf(error)}`, PRIORITY: '2' });
  }
  return true;
}

function givenHostSecret(environment: NodeJS.ProcessEnv): HostSecret {
  const file = readFileSync(join(environment['CREDENTIALS_DIRECTORY'] ?? '/', hostSecretCredential));
  try {
    return new HostSecret(file);
  } finally {
    file.fill(0);
  }
}

/** The audit chain, which the seed's key signs, and the TPM too if it opened the seed. */
function auditingOf(given: Answers): Auditing {
  const state = ChainState.open(pathsUnder('/').auditState, (error) => {
    const reason = messageOf(error);
    journal({ MESSAGE: `the next run can't continue the audit chain where this one ends: ${reason}`, PRIORITY: '4' });
  });
  const chain = new Chain(state, journal);
  if ('closed' in given) return new Auditing(chain, undefined);
  const { scopes, tpm } = given.opened;
  let signer: Signer | undefined;
  return new Auditing(chain, { signer: () => (signer ??= signerWith(privateKeyOf(hostScope(scopes).seed))), tpm });
}

async function main(): Promise<void> {
  guardMemory();
  const sockets = activatedSockets(process.env);
  // Checked before the first accept: on the socket of an older version, units would take the encrypted answer for their
  // plain secret.
  if (!sockets.has(socketNames.credentials))
    throw new Failure('usage', 'the broker is started by auxcred.socket', {
      hint: 'systemctl daemon-reload && systemctl restart auxcred.socket',
    });
  const given = await answers();
  const auditing = auditingOf(given);
  const broker = new Broker(
    given,
    (code) => {
      void auditing.finish().then((answered) => {
        if (isStuck || !answered) process.kill(process.pid, 'SIGKILL');
        process.exit(code);
      });
    },
    (fields) => {
      auditing.record(fields);
    },
  );
  if ('closed' in given) {
    const { closed } = given;
    journal({
      MESSAGE: `the seeds stay closed: ${closed.message}${closed.hint === undefined ? '' : ` (${closed.hint})`}`,
      PRIORITY: '3',
      AUXCRED_REASON: closed.code,
    });
    setTimeout(() => {
      broker.leave(exitStatus[closed.code]);
    }, refusingTime);
  }
  process.on('SIGTERM', () => {
    broker.leave(0);
  });
  process.on('uncaughtException', (error) => {
    journal({ MESSAGE: `stopping after an unexpected error: ${messageOf(error)}`, PRIORITY: '2' });
    broker.leave(1);
  });
  broker.listen(sockets);
  notify('READY=1');
}

main().catch((error: unknown) => {
  process.stderr.write(`auxcred: ${messageOf(error)}\n`);
  process.exitCode = error instanceof Failure ? exitStatus[error.code] : 1;
});
