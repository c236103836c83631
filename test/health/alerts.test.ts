/** The alerts of docs/watching.md, evaluated by Prometheus itself. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { filesOfPage } from '../watching-page.ts';

let folder: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'auxcred-alerts-'));
  writeFileSync(join(folder, 'rules.yml'), filesOfPage().get('/etc/prometheus/rules.d/auxcred.yml') ?? '');
});
after(() => {
  rmSync(folder, { recursive: true });
});

/** Series of one value a minute, in promtool's notation. */
type Series = Readonly<Record<string, string>>;

const written = 'node_textfile_mtime_seconds{instance="web1",file="/x/auxcred.prom"}';
const built = 'auxcred_build_info{instance="web1",version="0.2.0"}';
const named = ['SeedDoesNotOpen', 'Refused', 'Stale', 'Problem', 'UnitFailed', 'NotWatched', 'MetricsGone'];

/** Has Prometheus evaluate all rules once. @throws unless only `alert` fires, with these labels besides the host's */
function evaluated(series: Series, minutes: number, alert?: string, labels: Series = {}): void {
  const test = {
    interval: '1m',
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    alert_rule_test: named.map((name) => ({
      eval_time: `${String(minutes)}m`,
      alertname: `Secrets${name}`,
      exp_alerts: name === alert ? [{ exp_labels: { instance: 'web1', ...labels } }] : [],
    })),
  };
  writeFileSync(join(folder, 'test.json'), JSON.stringify({ rule_files: ['rules.yml'], tests: [test] }));
  const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', 'test.json'], {
    cwd: folder,
    encoding: 'utf8',
  });
  assert.equal(status, 0, `${stdout}${stderr}`);
}

test('no alert fires while all is well, also across an upgrade', () => {
  const rules = readFileSync(join(folder, 'rules.yml'), 'utf8');
  assert.deepEqual(
    [...rules.matchAll(/alert: Secrets(\w+)/g)].map(([, name]) => name),
    named,
  );
  const old = built.replace('0.2.0', '0.1.0');
  evaluated({ [written]: '0+60x60', [old]: '1x30 _x30', [built]: '_x30 1x30' }, 60);
  evaluated({ 'auxcred_seed_opens{instance="web1"}': '1x60', 'auxcred_refusals_total{instance="web1"}': '7x60' }, 60);
});

test('each alert fires for what it names, and no other does', () => {
  evaluated({ 'auxcred_seed_opens{instance="web1"}': '1x40 0x20' }, 60, 'SeedDoesNotOpen');
  evaluated({ 'auxcred_refusals_total{instance="web1"}': '0x55 1x5' }, 60, 'Refused');
  evaluated({ 'auxcred_stale_units{instance="web1"}': '1x180' }, 180, 'Stale');
  const findings = 'auxcred_findings{instance="web1",level="problem"}';
  evaluated({ [findings]: '0x30 2x30' }, 60, 'Problem', { level: 'problem' });
  evaluated({ 'auxcred_own_unit_failed{instance="web1",unit="u"}': '0x55 1x5' }, 60, 'UnitFailed', { unit: 'u' });
});

test('metrics that end are told, be it that the file is old or that it is gone', () => {
  evaluated({ [written]: '0+60x20 1200x60', [built]: '1x80' }, 80, 'NotWatched', { file: '/x/auxcred.prom' });
  evaluated({ [written]: '0+60x20 _x40', [built]: '1x20 _x40' }, 60, 'MetricsGone', { version: '0.2.0' });
});
