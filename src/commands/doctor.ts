import { countsOf, examine, finish } from '../cli/chosen-health.ts';
import { Options } from '../cli/options.ts';
import { findingsOf } from '../health/checks.ts';
import { type Finding, isWell, type Level } from '../health/finding.ts';
import { printable } from '../system/printable.ts';
import { colored, print, printJson, say } from '../terminal/say.ts';

const colorOf: Readonly<Record<Level, 'red' | 'yellow' | 'green' | 'bold'>> = {
  problem: 'red',
  warning: 'yellow',
  note: 'bold',
  ok: 'green',
};

/** `auxcred doctor`: prints everything that is wrong, why it matters, and the command that fixes it. */
export async function doctor(argv: readonly string[]): Promise<number> {
  const options = new Options('doctor', argv);
  options.exactly();
  const health = await examine(options, true);
  const findings = findingsOf(health);
  if (options.flag('json')) printJson({ well: isWell(findings), findings, hidden: health.hidden });
  else {
    for (const finding of findings) if (finding.level !== 'ok' || options.flag('all')) printFinding(finding);
    say(
      `${String(findings.filter(({ level }) => level === 'ok').length)} of ` +
        `${String(new Set(findings.map(({ check }) => check)).size)} checks ` +
        `passed${isWell(findings) ? '' : `; ${countsOf(findings)}`}`,
    );
  }
  return finish(health, findings);
}

function printFinding({ check, level, message, why, mend }: Finding): void {
  print(`${colored(`${level}:`, colorOf[level])} ${printable(message)}${level === 'ok' ? '' : ` [${check}]`}`);
  if (why !== undefined) print(`    ${printable(why)}`);
  mend.forEach((command, i) => {
    print(`    ${i === 0 ? '$' : 'or $'} ${command}`);
  });
}
