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
import { hostScope, wipeScopes } from '../seeds/scope.ts';
import { activatedSockets } from '../system/activation.ts';
import { HostSecret, hostSecretChange } from '../system/host-credential.ts';
import { journal } from '../system/journal.ts';
import { guardMemory } from '../system/memory-guard.ts';
import { notify } from '../system/notify.ts';
import { pathsUnder } from '../system/paths.ts';

/** How long opening the seeds may take: a TPM that hangs must not hold up the units that wait. */
const openingLimit = 20_000;
/** How long a broker that can't open the seeds refuses requests before it exits, so that the next one tries again. */
const refusingTime = 3_000;
/** The credential through which auxcred.service gets systemd's host secret. */
const hostSecretCredential = 'host-secret';

async function within<T>(limit: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(
        new Failure('timeout', `the seeds could not be opened within ${String(limit / 1000)} s`, {
          hint: 'is the TPM answering? auxcred unseal shows where it hangs',
        }),
      );
    }, limit);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What the broker answers from; if anything is wrong, that is the reason for its refusals. */
async function answers(): Promise<Answers> {
  try {
    const isSecretStale = hostSecretChange();
    const secret = givenHostSecret(process.env);
    const opened = await within(openingLimit, openServedSecrets(pathsUnder('/'), givenOpeners(process.env)));
    process.on('exit', () => {
      wipeScopes(opened.scopes);
      secret.wipe();
    });
    return { opened, secret, isSecretStale, isLast: await locked(opened.lock) };
  } catch (error) {
    return { closed: error instanceof Failure ? error : new Failure('system', messageOf(error)) };
  }
}

/**
 * Locks the seeds until the next boot. A TPM that refuses does not keep units from their secrets.
 * @returns whether that was wanted: even if the lock failed, the TPM may have done it
 */
async function locked(lock: ServedSecrets['lock']): Promise<boolean> {
  if (lock === undefined) return false;
  try {
    await within(openingLimit, lock());
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

/** A thread that waits for a TPM for ever would also block an ordinary exit. */
const killItself = (): void => {
  process.kill(process.pid, 'SIGKILL');
};

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
  const isStuck = 'closed' in given && given.closed.code === 'timeout';
  const auditing = auditingOf(given);
  const broker = new Broker(
    given,
    (code) => {
      void auditing.finish().then((answered) => {
        if (isStuck || !answered) killItself();
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
