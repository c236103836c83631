import { connect } from 'node:net';
import { join } from 'node:path';
import { parseAnswer } from '../broker/stage-message.ts';
import { Options } from '../cli/options.ts';
import { stagedName } from '../drop-ins/drop-in.ts';
import { Failure, messageOf } from '../failure.ts';
import { ensureFolder, replaceFile } from '../system/files.ts';
import { pathsUnder } from '../system/paths.ts';
import { waysOut } from '../system/ways-out.ts';

/** Milliseconds. The broker has its own time limits; this one only ends the wait for a broker that is stuck. */
const answerLimit = 60_000;

/**
 * `auxcred stage UNIT CREDENTIAL...` fetches a unit's staged secrets from the broker and writes them to /run/credstore,
 * where the drop-in's `LoadCredential=` finds them; its `ExecStopPost=` removes them again. Fails if one was not
 * granted, since systemd would start the unit without the missing file.
 */
export async function stage(argv: readonly string[]): Promise<number> {
  const options = new Options('stage', argv);
  const [unit, ...wanted] = options.operands;
  if (unit === undefined) throw options.lacks('the name of a unit');
  const paths = pathsUnder('/');
  const answer = await ask(paths.stageSocket, unit);
  try {
    const credentials = parseAnswer(answer);
    const missing = wanted.filter((id) => credentials.every(({ credential }) => credential !== id));
    if (missing.length > 0)
      throw new Failure('refused', `${missing.join(', ')} of ${unit} is not provisioned`, {
        hint: `run ${waysOut().apply}`,
      });
    ensureFolder(paths.stageFolder, { mode: 0o700 });
    for (const { unit: declared, credential, value } of credentials)
      replaceFile(join(paths.stageFolder, stagedName(declared, credential)), value, { mode: 0o600 });
  } finally {
    answer.fill(0);
  }
  return 0;
}

/** The broker's whole answer. @throws Failure `system` if there is none. */
function ask(socketPath: string, unit: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const received: Buffer[] = [];
    const socket = connect(socketPath);
    socket.setTimeout(answerLimit, () => {
      socket.destroy(new Error('no answer in time'));
    });
    socket.on('data', (chunk) => received.push(chunk));
    socket.on('end', () => {
      resolve(Buffer.concat(received));
      for (const chunk of received) chunk.fill(0);
    });
    socket.on('error', (error) => {
      reject(
        new Failure('system', `the broker does not answer at ${socketPath}: ${messageOf(error)}`, {
          hint: 'systemctl status auxcred.socket auxcred.service',
          cause: error,
        }),
      );
    });
    socket.end(unit);
  });
}
