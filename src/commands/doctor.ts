import { exitStatus } from '../failure.ts';
import { findingsOf } from '../health/checks.ts';
import { type Finding, isWell, type Level } from '../health/finding.ts';
import { type Health, lookAt } from '../health/health.ts';
import { printable } from '../system/printable.ts';
import { meansOf } from '../machine/openers.ts';
import { Options } from '../cli/options.ts';
import { colored, print, printJson, say } from '../terminal/say.ts';

const colorOf: Readonly<Record<Level, 'red' | 'yellow' | 'green' | 'bold'>> = { problem: 'red', warning: 'yellow', note: 'bold', ok: 'green' };

/** `auxcred doctor`: everything that is wrong, why it matters, and the command that mends it. */
export async function doctor(argv: readonly string[]): Promise<number> {
  const options = new Options('doctor', argv);
  options.exactly();
  const health = await look(options, true);
  const findings = findingsOf(health);
  if (options.flag('json')) printJson({ well: isWell(findings), findings, hidden: health.hidden });
  else {
    for (const finding of findings) if (finding.level !== 'ok' || options.flag('all')) printFinding(finding);
    say(`${String(findings.filter(({ level }) => level === 'ok').length)} of ${String(new Set(findings.map(({ check }) => check)).size)} checks passed${isWell(findings) ? '' : `; ${countsOf(findings)}`}`);
  }
  return left(health, findings);
}

/** Looks at the system that the options name. */
export const look = async (options: Options, open: boolean): Promise<Health> => await lookAt(options.value('root') ?? '/', (paths) => meansOf(paths, options.value('tpm2-device')), { open });

/** `2 problems, 1 warning`. */
export function countsOf(findings: readonly Finding[]): string {
  const counted = (['problem', 'warning'] as const).map((level) => ({ level, number: findings.filter((finding) => finding.level === level).length }));
  return counted.filter(({ number }) => number > 0).map(({ level, number }) => `${String(number)} ${level}${number === 1 ? '' : 's'}`).join(', ');
}

/** The exit status. A TPM that still does not answer would hold up an ordinary exit. */
export function left({ hangs }: Health, findings: readonly Finding[]): number {
  if (hangs) process.kill(process.pid, 'SIGKILL');
  return isWell(findings) ? 0 : exitStatus.unwell;
}

function printFinding({ check, level, message, why, mend }: Finding): void {
  print(`${colored(`${level}:`, colorOf[level])} ${printable(message)}${level === 'ok' ? '' : ` [${check}]`}`);
  if (why !== undefined) print(`    ${printable(why)}`);
  mend.forEach((command, i) => { print(`    ${i === 0 ? '$' : 'or $'} ${command}`); });
}
