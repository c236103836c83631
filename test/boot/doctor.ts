import assert from 'node:assert/strict';
import { exitStatus } from '../../src/failure.ts';
import type { Machine } from '../machine/machine.ts';

/** `auxcred doctor` on a machine. */
export interface Doctor {
  /** Calls a verb that may find something. */
  call(...args: string[]): Promise<{ status: number; stdout: string }>;
  /** What `doctor` finds. */
  wrong(): Promise<string>;
  /** Runs the command below a finding. */
  mend(finding: RegExp): Promise<void>;
}

export function doctorOn(machineNow: () => Machine): Doctor {
  const call: Doctor['call'] = async (...args) => {
    const { status, stdout, stderr } = await machineNow().run(['auxcred', ...args], { check: false });
    assert.ok(status === 0 || status === exitStatus.unwell, `${String(status)}: ${stderr}`);
    return { status, stdout };
  };
  const wrong = async (): Promise<string> => {
    const { status, stdout } = await call('doctor');
    assert.equal(status, /^(?:problem|warning)/m.test(stdout) ? exitStatus.unwell : 0);
    return stdout;
  };
  const mend = async (finding: RegExp): Promise<void> => {
    const said = await wrong();
    const block = said.split(/^(?=\w+: )/m).find((text) => finding.test(text));
    assert.ok(block, said);
    await machineNow().shell(/^ {4}\$ (.*)$/m.exec(block)?.[1] ?? 'false');
  };
  return { call, wrong, mend };
}
